#include "fs/archive/libarchive/member.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <optional>

#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>

#include "fs/tree/import.h"

namespace shardfs {
namespace {

constexpr std::size_t kTarHeader = 512;

// linux/posix_acl_xattr.h and posix_acl.h.
constexpr std::uint32_t kAclVersion = 2;
constexpr std::uint32_t kNoId = 0xFFFFFFFF;
enum AclTag : std::uint16_t {
  kUserObj = 0x01,
  kUser = 0x02,
  kGroupObj = 0x04,
  kGroup = 0x08,
  kMask = 0x10,
  kOther = 0x20,
};

struct AclEntry {
  std::uint16_t tag = 0;
  std::uint16_t permissions = 0;
  std::uint32_t id = kNoId;
  auto operator<=>(const AclEntry&) const = default;
};

std::optional<std::uint16_t> linux_tag(int tag) {
  switch (tag) {
    case ARCHIVE_ENTRY_ACL_USER_OBJ:
      return kUserObj;
    case ARCHIVE_ENTRY_ACL_USER:
      return kUser;
    case ARCHIVE_ENTRY_ACL_GROUP_OBJ:
      return kGroupObj;
    case ARCHIVE_ENTRY_ACL_GROUP:
      return kGroup;
    case ARCHIVE_ENTRY_ACL_MASK:
      return kMask;
    case ARCHIVE_ENTRY_ACL_OTHER:
      return kOther;
    default:
      return std::nullopt;
  }
}

/// Tar's ACL texts may name a user without a number.
std::uint32_t id_by_name(std::uint16_t tag, const char* name) {
  std::array<char, 16384> buffer{};
  if (name == nullptr) return kNoId;
  if (tag == kUser) {
    struct passwd record = {}, *found = nullptr;
    ::getpwnam_r(name, &record, buffer.data(), buffer.size(), &found);
    return found != nullptr ? found->pw_uid : kNoId;
  }
  struct group record = {}, *found = nullptr;
  ::getgrnam_r(name, &record, buffer.data(), buffer.size(), &found);
  return found != nullptr ? found->gr_gid : kNoId;
}

/// In the kernel's order: by tag, then by id.
std::vector<AclEntry> acl_entries(struct archive_entry* entry, int want) {
  std::vector<AclEntry> entries;
  if (libarchive::archive_entry_acl_reset(entry, want) == 0) return entries;
  int type = 0, permissions = 0, tag = 0, id = 0;
  const char* name = nullptr;
  while (libarchive::archive_entry_acl_next(entry, want, &type, &permissions, &tag, &id, &name) ==
         ARCHIVE_OK) {
    const auto kind = linux_tag(tag);
    if (!kind) continue;
    AclEntry one{*kind, static_cast<std::uint16_t>(permissions & 7), kNoId};
    if (one.tag == kUser || one.tag == kGroup) {
      one.id = id >= 0 ? static_cast<std::uint32_t>(id) : id_by_name(one.tag, name);
      if (one.id == kNoId) continue;
    }
    entries.push_back(one);
  }
  std::ranges::sort(entries);
  return entries;
}

/// GNU tar writes "%3D" and "%25" for "=" and "%" in the names of attributes.
std::string xattr_name(std::string_view raw, int format) {
  std::string name(raw);
  if ((format & ARCHIVE_FORMAT_BASE_MASK) != ARCHIVE_FORMAT_TAR) return name;
  for (std::size_t at = 0; (at = name.find('%', at)) != std::string::npos; ++at) {
    if (name.compare(at, 3, "%3D") == 0) name.replace(at, 3, "=");
    if (name.compare(at, 3, "%25") == 0) name.replace(at, 3, "%");
  }
  return name;
}

bool has_xattr(const Member& member, std::string_view name) {
  return std::ranges::any_of(member.xattrs, [&](const auto& pair) { return pair.first == name; });
}

void add_acl(Member& member, struct archive_entry* entry, int type, const char* name) {
  Bytes value = acl_xattr(entry, type);
  if (!value.empty() && !has_xattr(member, name)) {
    member.xattrs.emplace_back(name, std::move(value));
  }
}

void add_xattrs(Member& member, struct archive_entry* entry, int format) {
  const char* raw = nullptr;
  const void* value = nullptr;
  std::size_t size = 0;
  libarchive::archive_entry_xattr_reset(entry);
  while (libarchive::archive_entry_xattr_next(entry, &raw, &value, &size) == ARCHIVE_OK) {
    std::string name = xattr_name(raw, format);
    if (!is_kept_xattr(name) || has_xattr(member, name)) continue;
    const auto* bytes = static_cast<const std::byte*>(value);
    member.xattrs.emplace_back(std::move(name), Bytes(bytes, bytes + size));
  }
  add_acl(member, entry, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, "system.posix_acl_access");
  add_acl(member, entry, ARCHIVE_ENTRY_ACL_TYPE_DEFAULT, "system.posix_acl_default");
  std::ranges::sort(member.xattrs, {}, [](const auto& pair) { return pair.first; });
}

/// With an ACL the mode's group bits are its mask; libarchive puts the owning group's rights there.
std::uint32_t mode_of(struct archive_entry* entry) {
  std::uint32_t mode = libarchive::archive_entry_mode(entry);
  for (const AclEntry& one : acl_entries(entry, ARCHIVE_ENTRY_ACL_TYPE_ACCESS)) {
    if (one.tag == kMask) mode = (mode & ~070u) | static_cast<std::uint32_t>(one.permissions) << 3;
  }
  return mode;
}

std::uint64_t parse_octal(std::string_view field) {
  std::uint64_t value = 0;
  for (const char c : field) {
    if (c < '0' || c > '7') break;
    value = value * 8 + static_cast<std::uint64_t>(c - '0');
  }
  return value;
}

/// "-1.75" as the time 1.75 seconds before 1970: -2 s + 250,000,000 ns.
std::optional<Time> parse_pax_time(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  std::int64_t seconds = 0;
  const char* end = text.data() + text.size();
  auto [rest, error] = std::from_chars(text.data(), end, seconds);
  if (error != std::errc()) return std::nullopt;
  std::int64_t nanoseconds = 0;
  if (rest != end && *rest == '.') ++rest;
  for (std::int64_t unit = 100'000'000; unit > 0 && rest != end; unit /= 10, ++rest) {
    if (*rest < '0' || *rest > '9') return std::nullopt;
    nanoseconds += (*rest - '0') * unit;
  }
  if (!negative) return Time{seconds, static_cast<std::uint32_t>(nanoseconds)};
  if (nanoseconds == 0) return Time{-seconds, 0};
  return Time{-seconds - 1, static_cast<std::uint32_t>(1'000'000'000 - nanoseconds)};
}

std::optional<std::uint32_t> to_id(la_int64_t id) {
  if (id < 0 || id > std::numeric_limits<std::uint32_t>::max()) return std::nullopt;
  return static_cast<std::uint32_t>(id);
}

}  // namespace

Result<std::string> member_path(const char* raw, bool& stripped) {
  stripped = *raw == '/';
  return normalized_path(raw);
}

const char* raw_path(struct archive_entry* entry) {
  const char* path = libarchive::archive_entry_pathname(entry);
  if (path == nullptr) path = libarchive::archive_entry_pathname_utf8(entry);
  return path != nullptr ? path : "";
}

Result<Member> member_of(struct archive_entry* entry, int format) {
  Member member;
  const bool link = libarchive::archive_entry_hardlink(entry) != nullptr;
  member.mode = mode_of(entry);
  if (link) member.mode = S_IFREG | (member.mode & 07777);
  const auto uid = to_id(libarchive::archive_entry_uid(entry));
  const auto gid = to_id(libarchive::archive_entry_gid(entry));
  if (!uid || !gid) return fail(ErrorKind::Invalid, "an owner beyond 32 bits");
  member.uid = *uid;
  member.gid = *gid;
  member.mtime = {libarchive::archive_entry_mtime(entry),
                  static_cast<std::uint32_t>(libarchive::archive_entry_mtime_nsec(entry))};
  member.hard_link = link;
  if (link) return member;
  if ((member.mode & S_IFMT) == 0) return fail(ErrorKind::Invalid, "an unknown type of file");
  if (member.is_symlink()) {
    const char* text = libarchive::archive_entry_symlink(entry);
    if (text == nullptr) text = libarchive::archive_entry_symlink_utf8(entry);
    member.link = text != nullptr ? text : "";
  }
  if (S_ISCHR(member.mode) || S_ISBLK(member.mode)) {
    member.device_major = static_cast<std::uint32_t>(libarchive::archive_entry_rdevmajor(entry));
    member.device_minor = static_cast<std::uint32_t>(libarchive::archive_entry_rdevminor(entry));
  }
  add_xattrs(member, entry, format);
  return member;
}

std::vector<Hole> holes_of(struct archive_entry* entry, std::uint64_t size) {
  std::vector<Hole> holes;
  if (libarchive::archive_entry_sparse_reset(entry) == 0) return holes;
  std::uint64_t at = 0;
  la_int64_t offset = 0, length = 0;
  const auto close_hole = [&](std::uint64_t end) {
    if (end > at) holes.push_back({at, end - at});
  };
  while (libarchive::archive_entry_sparse_next(entry, &offset, &length) == ARCHIVE_OK) {
    const auto start = std::min(static_cast<std::uint64_t>(offset), size);
    close_hole(start);
    at = std::max(at, std::min(start + static_cast<std::uint64_t>(length), size));
  }
  close_hole(size);
  return holes;
}

Bytes acl_xattr(struct archive_entry* entry, int type) {
  Bytes value;
  const auto entries = acl_entries(entry, type);
  if (entries.empty()) return value;
  append(value, kAclVersion);
  for (const AclEntry& one : entries) {
    append(value, one.tag);
    append(value, one.permissions);
    append(value, one.id);
  }
  return value;
}

std::optional<Time> mtime_of_pax(std::string_view records) {
  std::optional<Time> time;
  while (!records.empty()) {
    std::size_t size = 0;
    const auto [rest, error] =
        std::from_chars(records.data(), records.data() + records.size(), size);
    if (error != std::errc() || size == 0 || size > records.size()) break;
    std::string_view record = records.substr(0, size);
    records.remove_prefix(size);
    record.remove_prefix(std::min(record.size(), record.find(' ') + 1));
    if (!record.starts_with("mtime=")) continue;
    record.remove_prefix(6);
    if (record.ends_with('\n')) record.remove_suffix(1);
    time = parse_pax_time(record);
  }
  return time;
}

std::optional<Time> mtime_of_headers(std::string_view headers) {
  std::optional<Time> time;
  for (std::size_t at = 0; at + kTarHeader <= headers.size();) {
    const std::string_view header = headers.substr(at, kTarHeader);
    const char type = header[156];
    if (type != 'x' && type != 'g' && type != 'L' && type != 'K') break;
    const std::uint64_t size = parse_octal(header.substr(124, 11));
    at += kTarHeader;
    if (size > headers.size() - at) break;
    if (type == 'x') time = mtime_of_pax(headers.substr(at, size));
    at += (size + kTarHeader - 1) / kTarHeader * kTarHeader;
  }
  return time;
}

}  // namespace shardfs
