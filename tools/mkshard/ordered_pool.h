// Work done by several threads, results taken in the order in which it was handed in.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace shardfs {

/// A bounded queue of jobs with workers. One thread submits, one pops; they may be the same if it
/// never submits more than `max_jobs` ahead. Invariant: `first_` is the number of the job whose
/// result is popped next; `slots_[i]` belongs to job first_ + i.
template <typename T>
class OrderedPool {
 public:
  /// A job's claim on the byte budget. Used by the one thread that runs the job.
  class Claim {
   public:
    /// Waits until `bytes` more fit into the budget. The job that is popped next never waits, so
    /// that there is always progress; it may exceed the budget.
    void reserve(std::uint64_t bytes) { pool_.reserve(number_, bytes); }

   private:
    friend class OrderedPool;
    Claim(OrderedPool& pool, std::uint64_t number) : pool_(pool), number_(number) {}
    OrderedPool& pool_;
    std::uint64_t number_;
  };
  using Job = std::move_only_function<T(Claim&)>;

  OrderedPool(unsigned threads, std::size_t max_jobs, std::uint64_t max_bytes)
      : max_jobs_(max_jobs), max_bytes_(max_bytes) {
    workers_.reserve(threads);
    try {
      for (unsigned i = 0; i < threads; ++i) workers_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
      // A limit of threads is reached: as many as there are will do.
      if (workers_.empty()) throw;
    }
  }

  ~OrderedPool() {
    cancel();
    for (std::thread& worker : workers_) worker.join();
  }
  OrderedPool(const OrderedPool&) = delete;
  OrderedPool& operator=(const OrderedPool&) = delete;

  /// Hands in a job that already holds `bytes`; waits while the pool is full. False once cancelled.
  bool submit(Job job, std::uint64_t bytes = 0) {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [&] { return cancelled_ || has_room(bytes); });
    if (cancelled_) return false;
    slots_.push_back({std::move(job), std::nullopt, bytes});
    bytes_ += bytes;
    jobs_.notify_one();
    return true;
  }

  /// No more jobs will come.
  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    results_.notify_all();
  }

  /// Makes all waiting end and drops jobs that have not begun.
  void cancel() { fail(nullptr); }

  /// Like cancel(), and pop() throws `exception`, the first one if there are several. What a job
  /// throws comes here, too.
  void fail(std::exception_ptr exception) {
    const std::lock_guard lock(mutex_);
    if (!exception_) exception_ = std::move(exception);
    cancelled_ = true;
    jobs_.notify_all();
    results_.notify_all();
    room_.notify_all();
  }

  /// The next result; nothing after close() and the last one, or once cancelled.
  std::optional<T> pop() {
    std::unique_lock lock(mutex_);
    results_.wait(lock, [&] {
      return cancelled_ || (slots_.empty() ? closed_ : slots_.front().result.has_value());
    });
    if (exception_) std::rethrow_exception(exception_);
    if (cancelled_ || slots_.empty()) return std::nullopt;
    std::optional<T> result = std::move(slots_.front().result);
    bytes_ -= slots_.front().bytes;
    slots_.pop_front();
    ++first_;
    room_.notify_all();
    return result;
  }

 private:
  struct Slot {
    Job job;
    std::optional<T> result;
    std::uint64_t bytes = 0;
  };

  bool has_room(std::uint64_t bytes) const {
    return slots_.empty() || (slots_.size() < max_jobs_ && bytes_ + bytes <= max_bytes_);
  }

  void reserve(std::uint64_t number, std::uint64_t bytes) {
    std::unique_lock lock(mutex_);
    room_.wait(lock,
               [&] { return cancelled_ || number == first_ || bytes_ + bytes <= max_bytes_; });
    if (cancelled_) return;  // The result will be dropped.
    slots_[number - first_].bytes += bytes;
    bytes_ += bytes;
  }

  void work() {
    try {
      work_on_jobs();
    } catch (...) {
      fail(std::current_exception());
    }
  }

  void work_on_jobs() {
    std::unique_lock lock(mutex_);
    while (true) {
      jobs_.wait(lock, [&] { return cancelled_ || next_ - first_ < slots_.size(); });
      if (cancelled_) return;
      const std::uint64_t number = next_++;
      Job job = std::move(slots_[number - first_].job);
      lock.unlock();
      Claim claim(*this, number);
      T result = job(claim);
      job = nullptr;
      lock.lock();
      if (cancelled_) return;
      slots_[number - first_].result.emplace(std::move(result));
      if (number == first_) results_.notify_one();
    }
  }

  const std::size_t max_jobs_;
  const std::uint64_t max_bytes_;
  std::mutex mutex_;
  std::condition_variable jobs_, results_, room_;
  std::deque<Slot> slots_;
  std::uint64_t first_ = 0;  ///< number of the job in slots_.front()
  std::uint64_t next_ = 0;   ///< number of the first job that no worker has taken
  std::uint64_t bytes_ = 0;  ///< reserved by all jobs in slots_
  bool closed_ = false;
  bool cancelled_ = false;
  std::exception_ptr exception_;
  std::vector<std::thread> workers_;
};

}  // namespace shardfs
