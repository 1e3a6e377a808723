// CLI11 without its exceptions.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>

#include "fs/base/result.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace shardfs {

/// Parses `args` (without the program's name). A usage error is Invalid, its message one line
/// without the program's name. Options --help and --version are the caller's own flags.
[[nodiscard]] Result<void> parse_command_line(CLI::App& app, std::span<const std::string> args);

/// An option whose value is a size ("64K") of `least` to `most` bytes, or SHARDFS_* of the
/// environment if `environment` is not empty.
CLI::Option* add_size_option(CLI::App& app, const std::string& names, std::uint64_t& value,
                             std::uint64_t least = 0,
                             std::uint64_t most = std::numeric_limits<std::uint64_t>::max(),
                             const std::string& environment = "");

}  // namespace shardfs
