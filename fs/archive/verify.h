// Parts of `verify` that all formats share.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <string>

#include "fs/archive/archive.h"
#include "fs/base/result.h"

namespace shardfs {

/// Runs task(0) … task(count − 1), started in that order, in `threads` threads. The first error
/// ends it: `abandon`, if there is one, is called then, so that no task waits for another. Io:
/// there is not enough memory for a task on `archive`.
[[nodiscard]] Result<void> run_tasks(const std::string& archive, std::uint64_t count,
                                     unsigned threads,
                                     const std::function<Result<void>(std::uint64_t)>& task,
                                     const std::function<void()>& abandon = {});

/// Gathers damage and progress from all threads.
class Findings {
 public:
  explicit Findings(const std::function<bool(std::uint64_t)>& progress) : progress_(progress) {}

  void bad(std::string path, std::uint64_t piece, std::uint64_t offset);
  /// Counts checked bytes. Interrupted if the caller wants no more.
  [[nodiscard]] Result<void> checked(std::uint64_t bytes);
  /// What was found, by offset.
  [[nodiscard]] VerifyReport report();

 private:
  const std::function<bool(std::uint64_t)>& progress_;
  std::mutex mutex_;
  VerifyReport report_;  ///< guarded by mutex_
};

}  // namespace shardfs
