// The comma-separated options behind -o.
#pragma once

#include <string>
#include <vector>

#include "fs/base/result.h"
#include "fs/mount/session.h"

namespace shardfs {

/// Reads each text of `lists` into `options`; later ones win. Invalid names the option: one that is
/// not known, has a wrong value, or asks for writing, devices or set-id programs. `from_mount8`:
/// these last three, and what else mount(8) and fstab add for themselves, are accepted and do
/// nothing.
[[nodiscard]] Result<void> parse_mount_options(const std::vector<std::string>& lists,
                                               bool from_mount8, MountOptions& options);

}  // namespace shardfs
