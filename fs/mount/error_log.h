// Failures met while serving: each damaged place is logged once, the last ones are kept for stats.
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "fs/base/result.h"

namespace shardfs {

/// Any thread.
class ErrorLog {
 public:
  struct Entry {
    std::string path;   ///< of the file, in the mount
    int sys_errno = 0;  ///< what the reader was told
    std::string text;
    std::optional<Place> place;
  };

  /// Takes note of a failed request. A text seen before is counted only: a loop over a damaged file
  /// must not fill the disk. After kMaxTexts different ones a last line says that there are more.
  void record(std::string path, const Error& error);

  /// The last kKept different failures, oldest first.
  [[nodiscard]] std::vector<Entry> last() const;
  /// Failed requests, repeated ones included.
  [[nodiscard]] std::uint64_t total() const;

  static constexpr std::size_t kKept = 16;
  static constexpr std::size_t kMaxTexts = 1000;

 private:
  mutable std::mutex mutex_;
  std::unordered_set<std::string> texts_;
  std::deque<Entry> last_;
  std::uint64_t total_ = 0;
};

}  // namespace shardfs
