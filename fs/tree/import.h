// What names and attributes become that come from elsewhere.
#pragma once

#include <string>
#include <string_view>

#include "fs/base/result.h"

namespace shardfs {

/// Components of `path` joined by single slashes, without "." components and without leading or
/// trailing ones. Invalid if there is a ".." among them.
[[nodiscard]] Result<std::string> normalized_path(std::string_view path);

/// user, trusted and security attributes and POSIX ACLs are kept. Others describe the file system
/// (Lustre's layout, NFS 4 ACLs) and would be wrong or refused anywhere else.
[[nodiscard]] bool is_kept_xattr(std::string_view name);

}  // namespace shardfs
