#include "tools/common/json.h"

#include <ostream>

#include <nlohmann/json.hpp>

namespace shardfs {

nlohmann::ordered_json json_object(const std::string& archive, const std::string& id) {
  return {{"schema", 1}, {"version", SHARDFS_VERSION}, {"archive", archive}, {"id", id}};
}

void write_json(Io& io, const nlohmann::ordered_json& object) {
  io.out << object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << '\n'
         << std::flush;
}

}  // namespace shardfs
