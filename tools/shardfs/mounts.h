// The shardfs mounts of this mount namespace, seen from outside.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>
#include <sys/types.h>

#include "fs/base/result.h"
#include "fs/base/unique_fd.h"

namespace shardfs {

struct MountPoint {
  std::string directory;
  std::string source;  ///< the archive
  std::string type;
  uid_t user = 0;  ///< who mounted it; FUSE only
  [[nodiscard]] bool is_shardfs() const { return type == "fuse.shardfs"; }
};

/// All mounts, in order: of several on one directory the last is the one seen.
[[nodiscard]] Result<std::vector<MountPoint>> mount_points();

/// What is mounted at exactly `directory` (absolute, as absolute_path gives it), if anything.
[[nodiscard]] Result<std::optional<MountPoint>> mount_at(const std::string& directory);

/// `path` made absolute and free of symlinks; the last component may be a dead mount. Errors as
/// realpath(3).
[[nodiscard]] Result<std::string> absolute_path(const std::string& path);

/// The archive that is mounted at `path`, if one is; else `path`.
[[nodiscard]] std::string archive_at(const std::string& path);

/// The root directory of the shardfs mount at `path`, for send_command().
[[nodiscard]] Result<UniqueFd> open_root(const std::string& path);

/// A command of fs/mount/control.h. Unsupported if it is no shardfs mount, or nothing there is
/// cached.
[[nodiscard]] Result<void> send_command(const UniqueFd& root, const std::string& path,
                                        unsigned long number, void* argument);

/// The report (fs/mount/report.h) called `xattr` of the mount at `directory`. Gives up after five
/// seconds: a mount may hang. Unsupported if it is no shardfs mount's root; Io with ENOTCONN if its
/// daemon is dead.
[[nodiscard]] Result<nlohmann::ordered_json> read_report(const std::string& directory,
                                                         const char* xattr);

}  // namespace shardfs
