// Lists of paths that a user gives.
#pragma once

#include <string>
#include <vector>

#include "fs/base/result.h"

namespace shardfs {

/// Paths in a file ("-": standard input), one a line or NUL-terminated; empty ones are dropped.
/// Invalid: there are none, or NULs where lines are wanted. Io; Interrupted, by a signal.
[[nodiscard]] Result<std::vector<std::string>> read_path_list(const std::string& file,
                                                              bool null_separated);

}  // namespace shardfs
