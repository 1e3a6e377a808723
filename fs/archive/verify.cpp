#include "fs/archive/verify.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <new>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

namespace shardfs {

Result<void> run_tasks(const std::string& archive, std::uint64_t count, unsigned threads,
                       const std::function<Result<void>(std::uint64_t)>& task,
                       const std::function<void()>& abandon) {
  std::atomic<std::uint64_t> next{0};
  std::atomic<bool> stop{false};
  std::mutex mutex;
  std::optional<Error> first_error;
  const auto attempt = [&](std::uint64_t i) -> Result<void> {
    try {
      return task(i);
    } catch (const std::bad_alloc&) {
      return fail_errno(ENOMEM, archive, "cannot be verified");
    }
  };
  const auto work = [&] {
    for (std::uint64_t i = next++; i < count && !stop; i = next++) {
      auto done = attempt(i);
      if (done) continue;
      if (abandon) abandon();
      stop = true;
      const std::lock_guard lock(mutex);
      if (!first_error) first_error = std::move(done).error();
    }
  };
  {
    std::vector<std::jthread> others;
    try {
      for (std::uint64_t t = 1; t < std::min<std::uint64_t>(threads, count); ++t)
        others.emplace_back(work);
    } catch (const std::system_error&) {
      // A limit of threads is reached: as many as there are will do.
    }
    work();
  }
  if (first_error) return std::unexpected(*std::move(first_error));
  return {};
}

void Findings::bad(std::string path, std::uint64_t piece, std::uint64_t offset) {
  const std::lock_guard lock(mutex_);
  report_.bad.push_back({std::move(path), piece, offset});
}

Result<void> Findings::checked(std::uint64_t bytes) {
  {
    const std::lock_guard lock(mutex_);
    report_.checked_bytes += bytes;
  }
  if (progress_ && !progress_(bytes)) return fail(ErrorKind::Interrupted, "interrupted");
  return {};
}

VerifyReport Findings::report() {
  const std::lock_guard lock(mutex_);
  std::ranges::stable_sort(report_.bad, {}, &Damage::offset);
  return std::move(report_);
}

}  // namespace shardfs
