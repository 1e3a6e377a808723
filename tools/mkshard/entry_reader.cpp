#include "tools/mkshard/entry_reader.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "fs/tree/import.h"
#include "tools/mkshard/member_source.h"

namespace shardfs {
namespace {

constexpr int kReadsOfChanged = 4;

Time time_of(const struct timespec& time) {
  return {time.tv_sec, static_cast<std::uint32_t>(time.tv_nsec)};
}

void set_attributes(Member& member, const struct stat& status) {
  member.mode = status.st_mode;
  member.uid = status.st_uid;
  member.gid = status.st_gid;
  member.mtime = time_of(status.st_mtim);
  if (S_ISREG(status.st_mode)) member.size = static_cast<std::uint64_t>(status.st_size);
  if (S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode)) {
    member.device_major = major(status.st_rdev);
    member.device_minor = minor(status.st_rdev);
  }
}

/// The calls that list and get extended attributes: of a descriptor, or of a path without following
/// a link.
struct XattrSource {
  int fd = -1;
  std::string path;

  [[nodiscard]] ssize_t list(char* to, std::size_t size) const {
    return fd >= 0 ? ::flistxattr(fd, to, size) : ::llistxattr(path.c_str(), to, size);
  }
  [[nodiscard]] ssize_t get(const char* name, void* to, std::size_t size) const {
    return fd >= 0 ? ::fgetxattr(fd, name, to, size) : ::lgetxattr(path.c_str(), name, to, size);
  }
};

/// Attributes may grow between the call that asks for the size and the one that reads; -1 as the
/// call.
template <typename Call>
ssize_t read_sized(std::string& buffer, Call&& call) {
  while (true) {
    const ssize_t size = call(nullptr, std::size_t{0});
    if (size <= 0) return size;
    buffer.resize(static_cast<std::size_t>(size));
    const ssize_t got = call(buffer.data(), buffer.size());
    if (got >= 0 || errno != ERANGE) return got;
  }
}

/// Whether there are no attributes, or none for this user: names are listed to everyone.
bool is_quiet(int err) { return err == EACCES || err == EPERM || err == ENODATA || err == ENOTSUP; }

std::string unread(const Member& member, std::string_view what) {
  return fmt::format("{}: cannot read {}, not packed: {}", member.path, what, std::strerror(errno));
}

/// Attributes that cannot be read are left out, as tar does. Returns a notice, or "".
std::string add_xattr(Member& member, const XattrSource& source, const char* name) {
  std::string value;
  const ssize_t size =
      read_sized(value, [&](char* to, std::size_t room) { return source.get(name, to, room); });
  if (size < 0) return is_quiet(errno) ? "" : unread(member, name);
  const ByteSpan bytes =
      as_bytes(std::string_view(value).substr(0, static_cast<std::size_t>(size)));
  member.xattrs.emplace_back(name, Bytes(bytes.begin(), bytes.end()));
  return "";
}

/// Returns a notice, or "".
std::string read_xattrs(Member& member, const XattrSource& source) {
  std::string names, notice;
  const ssize_t size =
      read_sized(names, [&](char* to, std::size_t room) { return source.list(to, room); });
  if (size < 0 && !is_quiet(errno)) return unread(member, "extended attributes");
  if (size <= 0) return "";
  names.resize(static_cast<std::size_t>(size));
  for (const char* name = names.data(); name < names.data() + names.size();
       name += std::char_traits<char>::length(name) + 1) {
    if (!is_kept_xattr(name)) continue;
    if (auto why = add_xattr(member, source, name); !why.empty()) notice = std::move(why);
  }
  std::ranges::sort(member.xattrs, {}, [](const auto& pair) { return pair.first; });
  return notice;
}

/// Holes are looked for only where fewer blocks are allocated than the size needs, as tar does.
bool may_have_holes(const struct stat& status) {
  constexpr std::int64_t kBlock = 512;  // The unit of st_blocks, whatever the file system.
  return status.st_blocks < (status.st_size + kBlock - 1) / kBlock;
}

void read_holes(Member& member, int fd) {
  const auto size = static_cast<off_t>(member.size);
  for (off_t at = 0; at < size;) {
    off_t data = ::lseek(fd, at, SEEK_DATA);
    if (data < 0 && errno != ENXIO) return;  // The file system does not tell.
    if (data < 0 || data > size) data = size;
    if (data > at) {
      member.holes.push_back(
          {static_cast<std::uint64_t>(at), static_cast<std::uint64_t>(data - at)});
    }
    if (data == size) return;
    at = ::lseek(fd, data, SEEK_HOLE);
    if (at < 0) return;
  }
}

Result<std::string> read_link(const DirectoryHandle& directory, const std::string& name,
                              const std::string& path) {
  std::string text(256, '\0');
  while (true) {
    const ssize_t size = ::readlinkat(directory.fd.get(), name.c_str(), text.data(), text.size());
    if (size < 0) return fail_errno(errno, path, "cannot read the symlink");
    if (static_cast<std::size_t>(size) < text.size())
      return text.substr(0, static_cast<std::size_t>(size));
    text.resize(text.size() * 4);
  }
}

/// Fills `bytes` from the start of the file; false if it ends early.
Result<bool> read_all(int fd, Bytes& bytes, const std::string& path) {
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t count =
        ::pread(fd, bytes.data() + done, bytes.size() - done, static_cast<off_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno(errno, path, "cannot read");
    if (count == 0) return false;
    done += static_cast<std::size_t>(count);
  }
  return true;
}

}  // namespace

FileVersion version_of(const struct stat& status) {
  return {{status.st_dev, status.st_ino},
          static_cast<std::uint64_t>(status.st_size),
          time_of(status.st_mtim),
          time_of(status.st_ctim)};
}

std::unexpected<Error> changed_error(const std::string& path) {
  return fail(ErrorKind::Io, path + ": changed while it was read");
}

Result<UniqueFd> open_regular(const DirectoryHandle& directory, const std::string& name,
                              const std::string& path) {
  constexpr int kFlags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
  // Only the owner may ask to leave the access time alone.
  UniqueFd fd(::openat(directory.fd.get(), name.c_str(), kFlags | O_NOATIME));
  if (!fd && errno == EPERM) fd.reset(::openat(directory.fd.get(), name.c_str(), kFlags));
  if (!fd) return fail_errno(errno, path, "cannot open");
  return fd;
}

FoundEntry EntryReader::read(const DirectoryRef& directory, std::string_view name,
                             unsigned char type,
                             const std::function<void(std::uint64_t)>& reserve) const {
  FoundEntry found;
  found.directory = directory;
  found.name = name;
  found.member.path = join_path(directory->path, name);
  const auto done = type == DT_REG ? read_regular(found, reserve) : read_other(found, type);
  if (!done) found.failure = done.error();
  if (!found.large) found.directory.reset();
  return found;
}

Result<void> EntryReader::read_other(FoundEntry& found, unsigned char type) const {
  Member& member = found.member;
  const DirectoryHandle& directory = *found.directory;
  struct stat status = {};
  constexpr int kFlags = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH;
  if (::fstatat(directory.fd.get(), found.name.c_str(), &status, kFlags) != 0) {
    return fail_errno(errno, member.path, "cannot stat");
  }
  if (IFTODT(status.st_mode) != type) return changed_error(member.path);
  set_attributes(member, status);
  found.version = version_of(status);
  found.linked = type != DT_DIR && status.st_nlink > 1;
  found.links = status.st_nlink;
  if (type == DT_SOCK) {
    found.left_out = true;
    found.notice = member.path + ": socket, not packed";
    return {};
  }
  if (type == DT_LNK) {
    SHARDFS_TRY(member.link, read_link(directory, found.name, member.path));
  }
  // Through /proc because there is no lgetxattrat(); "/." follows nothing where the name is empty.
  found.notice = read_xattrs(member, {-1, fmt::format("/proc/self/fd/{}/{}", directory.fd.get(),
                                                      found.name.empty() ? "." : found.name)});
  return {};
}

Result<void> EntryReader::read_regular(FoundEntry& found,
                                       const std::function<void(std::uint64_t)>& reserve) const {
  Bytes bytes;
  const int reads = options_.retry_changed ? kReadsOfChanged : 1;
  bool unchanged = false;
  for (int i = 0; i < reads && !unchanged; ++i) {
    SHARDFS_TRY(unchanged, read_once(found, bytes, reserve));
  }
  if (!unchanged) return changed_error(found.member.path);
  const auto container = container_.load();
  if (!found.large && container && bytes.size() <= kSmallFile) {
    found.payload = Payload::prepare(std::move(bytes), *container);
    found.prepared = true;
  } else {
    found.payload.bytes = std::move(bytes);
  }
  return {};
}

/// False if the file changed meanwhile.
Result<bool> EntryReader::read_once(FoundEntry& found, Bytes& bytes,
                                    const std::function<void(std::uint64_t)>& reserve) const {
  Member& member = found.member;
  SHARDFS_TRY(const UniqueFd fd, open_regular(*found.directory, found.name, member.path));
  struct stat before = {};
  if (::fstat(fd.get(), &before) != 0) return fail_errno(errno, member.path, "cannot stat");
  if (!S_ISREG(before.st_mode)) return changed_error(member.path);
  member.xattrs.clear();
  member.holes.clear();
  set_attributes(member, before);
  found.version = version_of(before);
  found.linked = before.st_nlink > 1;
  found.links = before.st_nlink;
  found.left_out = is_left_out(found.version);
  if (found.left_out) {
    found.notice = member.path + ": is the output, not packed";
    return true;
  }
  found.notice = read_xattrs(member, {fd.get(), ""});
  if (may_have_holes(before)) read_holes(member, fd.get());
  found.large = member.size > kWholeFile;
  if (found.large) return true;
  if (bytes.size() < member.size) reserve(member.size - bytes.size());
  bytes.resize(member.size);
  SHARDFS_TRY(const bool whole, read_all(fd.get(), bytes, member.path));
  struct stat after = {};
  if (::fstat(fd.get(), &after) != 0) return fail_errno(errno, member.path, "cannot stat");
  return whole && version_of(after) == found.version;
}

bool EntryReader::is_left_out(const FileVersion& version) const {
  return std::ranges::find(options_.left_out, version.inode) != options_.left_out.end();
}

}  // namespace shardfs
