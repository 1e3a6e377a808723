// A set of numbers that any thread may change at any time.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

namespace shardfs {

/// One bit for each number below `size`. Others are never in it.
class AtomicSet {
 public:
  explicit AtomicSet(std::uint64_t size) : size_(size), words_(size / 64 + 1) {}

  [[nodiscard]] bool contains(std::uint64_t n) const {
    return n < size_ && (words_[n / 64].load(std::memory_order_relaxed) & bit(n)) != 0;
  }
  /// True if `n` was not in it.
  bool insert(std::uint64_t n) {
    return n < size_ && (words_[n / 64].fetch_or(bit(n), std::memory_order_relaxed) & bit(n)) == 0;
  }
  void erase(std::uint64_t n) {
    if (n < size_) words_[n / 64].fetch_and(~bit(n), std::memory_order_relaxed);
  }

 private:
  static std::uint64_t bit(std::uint64_t n) { return std::uint64_t{1} << (n % 64); }

  std::uint64_t size_;
  std::vector<std::atomic<std::uint64_t>> words_;
};

}  // namespace shardfs
