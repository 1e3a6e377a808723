// `mkshard index`: the index of an archive beside it.
#pragma once

#include <span>
#include <string>

#include "tools/common/io.h"

namespace shardfs {

/// Runs `mkshard index` with what follows that word; returns the exit code.
[[nodiscard]] int index_main(std::span<const std::string> args, Io& io);

}  // namespace shardfs
