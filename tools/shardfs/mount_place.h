// The directory that an archive is to be mounted at.
#pragma once

#include <string>

#include "fs/archive/archive.h"
#include "fs/base/result.h"
#include "fs/dataset/dataset.h"
#include "fs/mount/session.h"

namespace shardfs {

/// A place to mount at must be a directory, empty, and the user's own.
[[nodiscard]] Result<void> check_directory(const std::string& directory);

/// True if just this is mounted there already; an error if something else of ours is, or a dead
/// mount. `archive`: null while it is not open, and its path says which it is.
[[nodiscard]] Result<bool> is_mounted(const Dataset& dataset, const Archive* archive,
                                      const MountOptions& options);

}  // namespace shardfs
