#include "cache/server/store_file.h"

#include <algorithm>
#include <cerrno>
#include <thread>

#include <fmt/format.h>
#include <unistd.h>

#include "cache/common/units.h"
#include "fs/base/transient.h"

namespace shardfs {

namespace {

using Clock = std::chrono::steady_clock;

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
    const ssize_t n =
        ::pread(fd_.get(), out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
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
