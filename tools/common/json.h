// The one object that a tool prints with --json.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "tools/common/io.h"

namespace shardfs {

/// {"schema": 1, "version": …, "archive": `archive`, "id": `id`}, to which a tool adds its own
/// fields.
[[nodiscard]] nlohmann::ordered_json json_object(const std::string& archive, const std::string& id);

/// Writes `object` as one line. Bytes that are not UTF-8 are written as U+FFFD.
void write_json(Io& io, const nlohmann::ordered_json& object);

}  // namespace shardfs
