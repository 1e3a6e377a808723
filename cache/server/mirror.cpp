#include "cache/server/mirror.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace shardfs {

Result<Mirror> Mirror::in_memory(std::uint64_t archive_bytes) {
  Mirror mirror;
  mirror.name_ = "mirror in memory";
  mirror.fd_.reset(::memfd_create("shardfs-mirror", MFD_CLOEXEC));
  if (!mirror.fd_ || ::ftruncate(mirror.fd_.get(), static_cast<off_t>(archive_bytes)) != 0)
    return fail_errno(errno, mirror.name_, "cannot be made");
  return mirror;
}

Result<Mirror> Mirror::on_disk(const CacheDirectory& directory, const ArchiveId& id,
                               std::uint64_t archive_bytes) {
  Mirror mirror;
  mirror.directory_ = &directory;
  mirror.id_ = id;
  mirror.name_ = fmt::format("{}/{}", directory.path(), mirror.part_name());
  if (::mkdirat(directory.fd(), "mirror", 0700) != 0 && errno != EEXIST)
    return fail_errno(errno, directory.path() + "/mirror", "cannot be made");
  SHARDFS_CHECK(mirror.open_existing(archive_bytes));
  if (mirror.fd_) return mirror;
  ::unlinkat(directory.fd(), mirror.part_name().c_str(), 0);  // What cannot be used.
  mirror.fd_.reset(::openat(directory.fd(), mirror.part_name().c_str(),
                            O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!mirror.fd_) return fail_errno(errno, mirror.name_, "cannot be made");
  if (::ftruncate(mirror.fd_.get(), static_cast<off_t>(archive_bytes)) != 0)
    return fail_errno(errno, mirror.name_, "cannot be sized");
  return mirror;
}

// Of another size it is none of ours: the new one replaces it.
Result<void> Mirror::open_existing(std::uint64_t archive_bytes) {
  for (const bool sealed : {true, false}) {
    const std::string name = sealed ? sealed_name() : part_name();
    UniqueFd fd(::openat(directory_->fd(), name.c_str(),
                         (sealed ? O_RDONLY : O_RDWR) | O_NOFOLLOW | O_CLOEXEC));
    struct stat st {};
    if (!fd || ::fstat(fd.get(), &st) != 0 || !S_ISREG(st.st_mode)) continue;
    if (static_cast<std::uint64_t>(st.st_size) != archive_bytes) {
      ::unlinkat(directory_->fd(), name.c_str(), 0);
      continue;
    }
    // The server that sealed it may have ended before it said so.
    if (sealed && (st.st_mode & 07777) != 0400) ::fchmodat(directory_->fd(), name.c_str(), 0400, 0);
    fd_ = std::move(fd);
    sealed_ = sealed;
    new_ = false;
    break;
  }
  return {};
}

// Some file systems cannot; they say what is wrong when they are written to.
Result<void> Mirror::reserve(std::uint64_t offset, std::uint64_t bytes) {
  if (is_in_memory()) return {};
  int done;
  do {
    done = ::fallocate(fd_.get(), 0, static_cast<off_t>(offset), static_cast<off_t>(bytes));
  } while (done != 0 && errno == EINTR);
  if (done == 0 || errno == EOPNOTSUPP || errno == ENOSYS) return {};
  return fail_errno(errno, name_, "cannot write");
}

Result<void> Mirror::write(std::uint64_t offset, ByteSpan bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return fail_errno(n == 0 ? ENOSPC : errno, name_, "cannot write");
    offset += static_cast<std::uint64_t>(n);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

Result<void> Mirror::read(std::uint64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t n = ::pread(fd_.get(), out.data(), out.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, name_, "cannot read");
    if (n == 0) return fail(ErrorKind::Corrupt, name_ + ": is cut short");
    offset += static_cast<std::uint64_t>(n);
    out = out.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

void Mirror::drop(Unit unit, Unit count) {
  ::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
              static_cast<off_t>(unit * kUnitBytes), static_cast<off_t>(count * kUnitBytes));
}

bool Mirror::is_at(const std::string& name) const {
  struct stat held {
  }, there{};
  return ::fstat(fd_.get(), &held) == 0 &&
         ::fstatat(directory_->fd(), name.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0 &&
         held.st_ino == there.st_ino && held.st_dev == there.st_dev;
}

Result<void> Mirror::rename(const std::string& from, const std::string& to) {
  if (::renameat(directory_->fd(), from.c_str(), directory_->fd(), to.c_str()) != 0)
    return fail_errno(errno, name_, "cannot be renamed");
  return {};
}

Result<void> Mirror::seal() {
  if (is_in_memory() || sealed_) return {};
  // The name promises what was verified, not what somebody has put in its place.
  if (!is_at(part_name()))
    return fail(ErrorKind::Unsupported, name_ + ": was removed or replaced; it is not sealed");
  SHARDFS_CHECK(rename(part_name(), sealed_name()));
  sealed_ = true;
  // Last: one of another name that is read-only could not be gone on with.
  if (::fchmod(fd_.get(), 0400) != 0) return fail_errno(errno, name_, "cannot be made read-only");
  return {};
}

Result<void> Mirror::unseal() {
  if (!sealed_) return {};
  UniqueFd fd;
  if (::fchmodat(directory_->fd(), sealed_name().c_str(), 0600, 0) == 0)
    fd.reset(::openat(directory_->fd(), sealed_name().c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return fail_errno(errno, name_, "cannot be made writable");
  SHARDFS_CHECK(rename(sealed_name(), part_name()));
  // The number stays the same: another thread may be about to hand it to a client.
  if (::dup3(fd.get(), fd_.get(), O_CLOEXEC) < 0)
    return fail_errno(errno, name_, "cannot be made writable");
  sealed_ = false;
  return {};
}

// The lock is the descriptor's, whoever has it, and so tells later servers that it is in use.
Result<UniqueFd> Mirror::read_only_fd() const {
  auto fd = reopen(fd_.get(), O_RDONLY, name_);
  if (fd && !is_in_memory() && ::flock(fd->get(), LOCK_SH | LOCK_NB) != 0)
    spdlog::debug("{}: cannot be locked: {}", name_, std::strerror(errno));
  return fd;
}

bool is_mirror_in_use(const CacheDirectory& directory, const std::string& file) {
  const UniqueFd fd(
      ::openat(directory.fd(), ("mirror/" + file).c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  return fd && ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

std::uint64_t remove_mirror(const CacheDirectory& directory, const std::string& file) {
  const std::string name = "mirror/" + file;
  struct stat st {};
  if (::fstatat(directory.fd(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) return 0;
  if (::unlinkat(directory.fd(), name.c_str(), 0) != 0) return 0;
  return static_cast<std::uint64_t>(st.st_blocks) * 512;
}

}  // namespace shardfs
