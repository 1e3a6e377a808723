#include "fs/base/byte_source.h"

#include <algorithm>
#include <cerrno>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include "fs/base/transient.h"

namespace shardfs {

namespace {

std::int64_t mtime_of(const struct stat& st) {
  return std::int64_t{st.st_mtim.tv_sec} * 1'000'000'000 + st.st_mtim.tv_nsec;
}

}  // namespace

Result<std::unique_ptr<FileSource>> FileSource::open(const std::string& path) {
  // O_NONBLOCK: opening a FIFO for reading would wait for a writer before fstat can refuse it.
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd) return fail_errno(errno, path, "cannot open");
  struct stat st {};
  if (::fstat(fd.get(), &st) != 0) return fail_errno(errno, path, "cannot stat");
  if (S_ISDIR(st.st_mode))
    return fail(ErrorKind::Invalid,
                fmt::format("{}: is a directory, not an archive; try: mkshard {} -o {}.tar", path,
                            path, path));
  if (!S_ISREG(st.st_mode))
    return fail(ErrorKind::Invalid, path + ": not a regular file, so not an archive");
  // A FUSE file system is asked to flush at each close until it has said that it need not be, and
  // a process that ends while such a store hangs would wait for that answer and could not be
  // killed. Here the store answers.
  UniqueFd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0)).reset();
  return std::unique_ptr<FileSource>(new FileSource(std::move(fd), path, st));
}

FileSource::FileSource(UniqueFd fd, std::string path, const struct stat& st)
    : fd_(std::move(fd)),
      path_(std::move(path)),
      size_(static_cast<std::uint64_t>(st.st_size)),
      mtime_ns_(mtime_of(st)) {}

// Size and mtime, as the cache server does; not ctime: a new link or mode changes no byte. What is
// written within a clock tick of the archive's last change, or not yet seen by a network file
// system's attribute cache, is not noticed.
Result<void> FileSource::check_unchanged() const {
  struct stat st {};
  if (::fstat(fd_.get(), &st) != 0) return fail_errno(errno, path_, "cannot stat");
  if (static_cast<std::uint64_t>(st.st_size) == size_ && mtime_of(st) == mtime_ns_) return {};
  return fail(ErrorKind::Corrupt,
              path_ + ": was changed while in use; try: unmount it and mount it again");
}

Result<void> FileSource::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  if (offset > size_ || out.size() > size_ - offset)
    return fail(ErrorKind::Corrupt, fmt::format("{}: cut short: {} bytes wanted at {}, file has {}",
                                                path_, out.size(), offset, size_));
  return shared_ ? read_shared(offset, out) : read_once(offset, out);
}

/// One of at most inflight_ threads, and again where that may help.
Result<void> FileSource::read_shared(std::uint64_t offset, std::span<std::byte> out) const {
  const auto end = std::chrono::steady_clock::now() + patience_;
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return cancelled_ || reading_ < inflight_; });
  Result<void> done = fail_errno(EIO, path_, "not read, for the mount is ending");
  if (cancelled_) return done;
  ++reading_;
  for (auto pause = kFirstPause; !cancelled_; pause *= 2) {
    lock.unlock();
    done = read_once(offset, out);
    lock.lock();
    const bool again = !done && is_transient(done.error().sys_errno) &&
                       std::chrono::steady_clock::now() + pause < end;
    if (!again) break;
    changed_.wait_for(lock, pause, [&] { return cancelled_; });
  }
  --reading_;
  changed_.notify_all();  // Some wait for their next try, not for this.
  return done;
}

void FileSource::cancel() const {
  {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
  }
  changed_.notify_all();
}

Result<void> FileSource::read_once(std::uint64_t offset, std::span<std::byte> out) const {
  std::size_t done = 0;
  while (done < out.size()) {
    requests_.fetch_add(1, std::memory_order_relaxed);
    const ssize_t n =
        ::pread(fd_.get(), out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) errors_.fetch_add(1, std::memory_order_relaxed);
    if (n < 0)
      return fail_errno(errno, path_, fmt::format("cannot read at byte {}", offset + done));
    if (n == 0)
      return fail(ErrorKind::Corrupt,
                  fmt::format("{}: cut short while in use: nothing at byte {} of {}", path_,
                              offset + done, size_));
    bytes_.fetch_add(static_cast<std::uint64_t>(n), std::memory_order_relaxed);
    done += static_cast<std::size_t>(n);
  }
  return checked_ ? check_unchanged() : Result<void>();
}

SourceCounters FileSource::counters() const {
  return {requests_.load(std::memory_order_relaxed), bytes_.load(std::memory_order_relaxed),
          errors_.load(std::memory_order_relaxed)};
}

}  // namespace shardfs
