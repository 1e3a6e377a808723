#include "fs/mount/slow_pool.h"

#include <system_error>
#include <utility>

namespace shardfs {

void SlowPool::run(std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    if (queue_.size() >= idle_ && threads_.size() < kThreads) {
      try {
        threads_.emplace_back([this] { serve(); });
      } catch (const std::system_error&) {
        // A limit of threads is reached.
      }
    }
    if (!threads_.empty()) {
      queue_.push_back(std::exchange(work, nullptr));
    }
  }
  if (work) return work();
  changed_.notify_one();
}

void SlowPool::serve() {
  std::unique_lock lock(mutex_);
  while (true) {
    ++idle_;
    changed_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
    --idle_;
    if (queue_.empty()) return;
    const auto work = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    work();
    lock.lock();
  }
}

void SlowPool::stop() {
  std::vector<std::thread> threads;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    threads.swap(threads_);
  }
  changed_.notify_all();
  for (std::thread& thread : threads) thread.join();
}

}  // namespace shardfs
