#include "cache/server/store_file.h"

#include <algorithm>
#include <cerrno>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "cache/common/units.h"
#include "fs/base/transient.h"

namespace shardfs {

namespace {

using Clock = std::chrono::steady_clock;

/// What every file system known to us asks of offsets, lengths and memory.
constexpr std::uint64_t kDirectAlignment = 4096;
/// Smaller reads are those of a partial cache, which may find them in the page cache again.
constexpr std::uint64_t kDirectFrom = 1 << 20;

/// Sleeps, unless `stop` is set meanwhile.
void pause(Clock::duration duration, const std::atomic<bool>& stop) {
  const auto end = Clock::now() + duration;
  while (!stop && Clock::now() < end) std::this_thread::sleep_for(std::chrono::milliseconds(10));
}

}  // namespace

Result<void> StoreFile::read_once(std::uint64_t offset, std::span<std::byte> out) {
  for (std::size_t done = 0; done < out.size();) {
    ++counters_.requests;
    if (out.size() < kUnitBytes && offset + out.size() < facts_.size) ++counters_.small_requests;
    const auto start = Clock::now();
    const ssize_t n = read_some(offset + done, out.subspan(done));
    const int err = errno;
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start);
    if (took > kStall) counters_.stall_ms += static_cast<std::uint64_t>((took - kStall).count());
    if (n <= 0) ++counters_.errors;
    if (n < 0) return fail_errno(err, path_, fmt::format("cannot read at byte {}", offset + done));
    if (n == 0)
      return fail(ErrorKind::Corrupt,
                  fmt::format("{}: cut short while in use: nothing at byte {} of {}", path_,
                              offset + done, facts_.size));
    counters_.bytes += static_cast<std::uint64_t>(n);
    done += static_cast<std::size_t>(n);
  }
  return check_unchanged();
}

// What is cut short leaves the rest unaligned, and to the page cache.
bool StoreFile::may_read_direct(std::uint64_t offset, std::span<const std::byte> out) {
  const auto is_aligned = [](std::uint64_t value) { return value % kDirectAlignment == 0; };
  if (no_direct_ || out.size() < kDirectFrom || !is_aligned(offset) || !is_aligned(out.size()) ||
      !is_aligned(reinterpret_cast<std::uintptr_t>(out.data())))
    return false;
  std::call_once(direct_opened_, [this] { no_direct_ = !open_direct(); });
  return !no_direct_;
}

bool StoreFile::open_direct() {
  // What the client may not read is not to be read for it.
  const int flags = ::fcntl(fd_.get(), F_GETFL);
  if (flags < 0 || (flags & O_PATH) != 0 || (flags & O_ACCMODE) == O_WRONLY) return false;
  auto opened = reopen(fd_.get(), O_RDONLY | O_DIRECT | O_CLOEXEC, path_);
  if (!opened) return false;
  direct_ = *std::move(opened);
  return true;
}

/// As pread().
ssize_t StoreFile::read_some(std::uint64_t offset, std::span<std::byte> out) {
  if (may_read_direct(offset, out)) {
    const ssize_t n = ::pread(direct_.get(), out.data(), out.size(), static_cast<off_t>(offset));
    if (n >= 0 || (errno != EINVAL && errno != EOPNOTSUPP)) return n;
    no_direct_ = true;  // It could be opened so, but not read.
  }
  return ::pread(fd_.get(), out.data(), out.size(), static_cast<off_t>(offset));
}

Result<void> StoreFile::check_unchanged() {
  if (!changed_) {
    SHARDFS_TRY(const ArchiveFacts now, archive_facts(fd_.get(), path_));
    if (!now.same_content(facts_)) changed_ = true;
  }
  if (changed_)
    return fail(
        ErrorKind::Corrupt,
        fmt::format("{}: was changed while in use; try: unmount it and mount it again", path_));
  return {};
}

Result<void> StoreFile::read(std::uint64_t offset, std::span<std::byte> out,
                             std::chrono::milliseconds timeout, const std::atomic<bool>& stop) {
  const auto end = Clock::now() + timeout;
  for (auto wait = kFirstPause;; wait *= 2) {
    auto done = read_once(offset, out);
    if (done || !is_transient(done.error().sys_errno) || stop || Clock::now() + wait > end)
      return done;
    ++counters_.retries;
    pause(wait, stop);
  }
}

}  // namespace shardfs
