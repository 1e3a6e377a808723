#include "fs/tree/import.h"

#include <algorithm>
#include <array>

namespace shardfs {

Result<std::string> normalized_path(std::string_view path) {
  std::string clean;
  while (!path.empty()) {
    const std::string_view part = path.substr(0, path.find('/'));
    path.remove_prefix(std::min(path.size(), part.size() + 1));
    if (part == "..") return fail(ErrorKind::Invalid, "a path with '..'");
    if (part.empty() || part == ".") continue;
    if (!clean.empty()) clean += '/';
    clean += part;
  }
  return clean;
}

bool is_kept_xattr(std::string_view name) {
  // Lustre keeps a file's stripes and names in trusted attributes.
  static constexpr std::array<std::string_view, 8> kLustre{
      "trusted.lov", "trusted.lma", "trusted.lmv", "trusted.link",
      "trusted.fid", "trusted.dmv", "trusted.hsm", "trusted.som"};
  if (name == "system.posix_acl_access" || name == "system.posix_acl_default") return true;
  if (std::ranges::find(kLustre, name) != kLustre.end()) return false;
  return name.starts_with("user.") || name.starts_with("trusted.") || name.starts_with("security.");
}

}  // namespace shardfs
