// What is said of a trouble that lasts.
#pragma once

#include <algorithm>
#include <chrono>

namespace shardfs {

/// Lets a message through that comes again and again: at once, then a second later at the earliest,
/// then two, four, ... seconds, so that a trouble of days takes some twenty lines. One thread at a
/// time.
class Rarely {
 public:
  [[nodiscard]] bool now() {
    const auto time = Clock::now();
    if (time < next_) return false;
    next_ = time + pause_;
    pause_ = std::min<Clock::duration>(pause_ * 2, kLongest);
    return true;
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::hours kLongest{24};
  Clock::time_point next_{};
  Clock::duration pause_ = std::chrono::seconds(1);
};

}  // namespace shardfs
