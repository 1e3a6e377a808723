// Labels that people put on moments, to tell epochs apart in the figures.
#pragma once

#include <deque>
#include <mutex>
#include <string>
#include <vector>

#include "fs/mount/counters.h"

namespace shardfs {

/// Any thread.
class Marks {
 public:
  struct Mark {
    std::string label;
    double t_s = 0;  ///< since mounting
    DaemonFigures daemon;
  };

  /// The oldest goes where there are more than kMost.
  void add(Mark mark);
  [[nodiscard]] std::vector<Mark> all() const;

  static constexpr std::size_t kMost = 64;

 private:
  mutable std::mutex mutex_;
  std::deque<Mark> marks_;  ///< guarded by mutex_
};

}  // namespace shardfs
