// The shardfs tool, callable from a test.
#pragma once

#include <string>
#include <vector>

#include "tools/common/io.h"

namespace shardfs {

/// Runs one command line (without the program's name) and returns the exit code. `shardfs ARCHIVE
/// DIR -o …`, as mount(8)'s helper for FUSE calls it, is taken as `shardfs mount`. A mount that
/// goes to the background returns twice: in the process that was called, and at the mount's end in
/// the daemon.
[[nodiscard]] int shardfs_main(const std::vector<std::string>& args, Io& io);

}  // namespace shardfs
