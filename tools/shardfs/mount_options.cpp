#include "tools/shardfs/mount_options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <limits>
#include <string_view>

#include <fmt/format.h>

#include "tools/common/size.h"

namespace shardfs {
namespace {

/// Cuts at commas that no backslash precedes; "\," is a comma, "\\" a backslash.
std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts(1);
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (list[i] == '\\' && i + 1 < list.size()) {
      parts.back().push_back(list[++i]);
    } else if (list[i] == ',') {
      parts.emplace_back();
    } else {
      parts.back().push_back(list[i]);
    }
  }
  std::erase(parts, "");
  return parts;
}

std::unexpected<Error> wrong(std::string_view option, std::string_view why) {
  return fail(ErrorKind::Invalid, fmt::format("-o {}: {}; try: shardfs mount --help", option, why));
}

Result<std::uint32_t> number(std::string_view option, std::string_view value, int base) {
  std::uint32_t parsed = 0;
  const char* const end = value.data() + value.size();
  const auto [stop, err] = std::from_chars(value.data(), end, parsed, base);
  // The largest number stands for "no id" in system calls.
  if (err != std::errc() || stop != end || parsed == std::numeric_limits<std::uint32_t>::max()) {
    return wrong(option, "not a number that fits");
  }
  return parsed;
}

Result<void> set_owner(std::string_view option, std::string_view value, MountOptions& options) {
  if (value != "me" && value != "archive") return wrong(option, "owner is me or archive");
  options.ownership.as_archived = value == "archive";
  return {};
}

Result<void> set_umask(std::string_view option, std::string_view value, MountOptions& options) {
  SHARDFS_TRY(options.ownership.umask, number(option, value, 8));
  if (options.ownership.umask > 0777) return wrong(option, "not an octal number up to 777");
  return {};
}

void set_subdir(std::string_view value, MountOptions& options) {
  while (value.starts_with('/')) value.remove_prefix(1);
  while (value.ends_with('/')) value.remove_suffix(1);
  options.subdir = value;
}

Result<bool> set_value(std::string_view option, MountOptions& options) {
  const std::size_t equals = option.find('=');
  if (equals == std::string_view::npos) return false;
  const std::string_view name = option.substr(0, equals), value = option.substr(equals + 1);
  if (name == "owner") {
    SHARDFS_CHECK(set_owner(option, value, options));
  } else if (name == "uid") {
    SHARDFS_TRY(options.ownership.uid, number(option, value, 10));
  } else if (name == "gid") {
    SHARDFS_TRY(options.ownership.gid, number(option, value, 10));
  } else if (name == "umask") {
    SHARDFS_CHECK(set_umask(option, value, options));
  } else if (name == "subdir") {
    set_subdir(value, options);
  } else if (name == "scan_wait") {
    const auto time = parse_time(value);
    if (!time) return wrong(option, "not a time such as 60s or 500ms");
    options.scan_wait = *time;
  } else {
    return false;
  }
  return true;
}

bool set_flag(std::string_view option, MountOptions& options) {
  constexpr std::array kAlways{"ro", "nosuid", "nodev"};
  if (std::ranges::find(kAlways, option) != kAlways.end()) return true;
  bool* const flag = option == "allow_other"    ? &options.allow_other
                     : option == "auto_unmount" ? &options.auto_unmount
                     : option == "noexec"       ? &options.noexec
                                                : nullptr;
  if (flag != nullptr) *flag = true;
  return flag != nullptr;
}

bool is_refused(std::string_view option) {
  return option == "rw" || option == "suid" || option == "dev";
}

bool is_for_mount8(std::string_view option) {
  constexpr std::array kIgnored{"rw",      "suid",    "dev",      "exec",   "defaults", "async",
                                "atime",   "noatime", "relatime", "auto",   "noauto",   "nofail",
                                "_netdev", "user",    "users",    "nouser", "owner",    "group"};
  return std::ranges::find(kIgnored, option) != kIgnored.end() || option.starts_with("x-") ||
         option.starts_with("comment=");
}

Result<void> apply(std::string_view option, bool from_mount8, MountOptions& options) {
  if (set_flag(option, options)) return {};
  SHARDFS_TRY(const bool known, set_value(option, options));
  if (known || (from_mount8 && is_for_mount8(option))) return {};
  if (is_refused(option)) return wrong(option, "a mount is always ro,nosuid,nodev");
  return wrong(option, "unknown option");
}

}  // namespace

Result<void> parse_mount_options(const std::vector<std::string>& lists, bool from_mount8,
                                 MountOptions& options) {
  for (const std::string& list : lists) {
    for (const std::string& option : split(list)) {
      SHARDFS_CHECK(apply(option, from_mount8, options));
    }
  }
  return {};
}

}  // namespace shardfs
