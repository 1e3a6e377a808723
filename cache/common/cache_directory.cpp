#include "cache/common/cache_directory.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

namespace shardfs {

namespace {

struct Kind {
  std::uint32_t magic;
  const char* name;
  bool shared;
};

// Magic numbers from linux/magic.h, statfs(2) and the projects' own sources.
constexpr std::array kKinds{
    Kind{0xEF53, "ext4", false},         Kind{0x58465342, "xfs", false},
    Kind{0x9123683E, "btrfs", false},    Kind{0x01021994, "tmpfs", false},
    Kind{0x858458F6, "ramfs", false},    Kind{0x2FC12FC1, "zfs", false},
    Kind{0xF2F52010, "f2fs", false},     Kind{0x794C7630, "overlay", false},
    Kind{0x73717368, "squashfs", false}, Kind{0x4D44, "vfat", false},
    Kind{0x6969, "nfs", true},           Kind{0x0BD00BD0, "lustre", true},
    Kind{0x47504653, "gpfs", true},      Kind{0x19830326, "beegfs", true},
    Kind{0x00C36400, "ceph", true},      Kind{0xFF534D42, "cifs", true},
    Kind{0xFE534D42, "smb2", true},      Kind{0x517B, "smb", true},
    Kind{0x01021997, "9p", true},        Kind{0x5346414F, "afs", true},
    Kind{0x6B414653, "kafs", true},      Kind{0x65735546, "fuse", true},
    Kind{0x61756673, "aufs", false},     Kind{0xAAD7AAEA, "panfs", true},
    Kind{0x7461636F, "ocfs2", true},     Kind{0x01161970, "gfs2", true},
};

/// The directory itself, made where it is not there.
Result<UniqueFd> open_or_make(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
    return fail_errno(errno, path, "cannot make the cache directory");
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return fail_errno(errno, path, "cannot open the cache directory");
  return fd;
}

Result<void> check_owner(int fd, const std::string& path) {
  struct stat st {};
  if (::fstat(fd, &st) != 0) return fail_errno(errno, path, "cannot stat");
  if (st.st_uid != ::geteuid())
    return fail(ErrorKind::Unsupported,
                fmt::format("{}: belongs to user {}; try: another --cache-dir", path, st.st_uid));
  if ((st.st_mode & 077) != 0)
    return fail(ErrorKind::Unsupported,
                fmt::format("{}: is open to others; try: chmod 700 {}", path, path));
  return {};
}

}  // namespace

Result<FileSystem> file_system_of(int fd, const std::string& name) {
  struct statfs st {};
  if (::fstatfs(fd, &st) != 0) return fail_errno(errno, name, "cannot tell its file system");
  const auto magic = static_cast<std::uint32_t>(st.f_type);
  const auto* const known = std::ranges::find(kKinds, magic, &Kind::magic);
  const bool found = known != kKinds.end();
  const auto block = static_cast<std::uint64_t>(st.f_frsize);
  // What nobody has heard of here is taken for shared: reading it too carefully costs less.
  return FileSystem{.type = found ? known->name : fmt::format("{:#x}", magic),
                    .shared = !found || known->shared,
                    .in_memory = magic == 0x01021994 || magic == 0x858458F6,
                    .bytes = st.f_blocks * block,
                    .free_bytes = st.f_bavail * block};
}

std::string cache_directory_name() { return fmt::format(".shardfs-{}", ::geteuid()); }

Result<CacheDirectory> CacheDirectory::open(const std::string& parent) {
  CacheDirectory directory;
  std::error_code ignored;  // Without a working directory nothing can be opened there either.
  const auto absolute = std::filesystem::absolute(parent, ignored);
  directory.path_ = (absolute / cache_directory_name()).string();
  const UniqueFd above(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!above) return fail_errno(errno, parent, "cannot open");
  SHARDFS_TRY(directory.file_system_, file_system_of(above.get(), parent));
  if (directory.file_system_.shared)
    return fail(
        ErrorKind::Unsupported,
        fmt::format("{}: is on a shared file system ({}); try: --cache-dir with a directory "
                    "of this node",
                    parent, directory.file_system_.type));
  auto made = open_or_make(directory.path_);
  // A server that ended may have removed it between the two.
  if (!made && made.error().sys_errno == ENOENT) made = open_or_make(directory.path_);
  SHARDFS_TRY(directory.fd_, std::move(made));
  SHARDFS_CHECK(check_owner(directory.fd_.get(), directory.path_));
  return directory;
}

std::string CacheDirectory::short_path(std::string_view name) const {
  return fmt::format("/proc/self/fd/{}/{}", fd_.get(), name);
}

}  // namespace shardfs
