// Threads for what has to wait, so that those that serve what is at hand never do.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace shardfs {

/// At most kThreads, started as they are needed. Work that comes when all of them wait is queued:
/// the kernel has its own bound on how much there can be. Any thread.
class SlowPool {
 public:
  static constexpr std::size_t kThreads = 64;

  SlowPool() = default;
  ~SlowPool() { stop(); }
  SlowPool(const SlowPool&) = delete;
  SlowPool& operator=(const SlowPool&) = delete;

  /// Runs `work` soon; at once, by the caller, where no thread can be had. REQUIRES: not after
  /// stop().
  void run(std::function<void()> work);

  /// Waits for all work to be done. What it waits for must have been told to give up before.
  void stop();

 private:
  void serve();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> queue_;  ///< guarded by mutex_, like all below
  std::size_t idle_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace shardfs
