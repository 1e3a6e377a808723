// What a mount has been asked and what it has done, counted.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <string_view>

namespace shardfs {

/// A kind of request from the kernel, or of message to it (NotifyStore).
enum class Op : std::uint8_t {
  Lookup,
  Forget,
  Getattr,
  Readlink,
  Open,
  Read,
  Flush,
  Release,
  Fsync,
  Opendir,
  Readdir,
  Readdirplus,
  Releasedir,
  Fsyncdir,
  Statfs,
  Getxattr,
  Listxattr,
  Access,
  Lseek,
  Ioctl,
  Refused,  ///< anything that would write
  NotifyStore,
};
inline constexpr std::size_t kOps = static_cast<std::size_t>(Op::NotifyStore) + 1;

/// Lower-case name, as in stats: "readdirplus".
[[nodiscard]] std::string_view name(Op op);

/// What the daemon has done for READs, at one moment.
struct DaemonFigures {
  std::uint64_t read_bytes = 0;    ///< handed to the kernel in answer to READ
  std::uint64_t pushed_bytes = 0;  ///< stored in its page cache unasked
  std::uint64_t hit_bytes = 0;     ///< of the archive, found in the cache
  std::uint64_t miss_bytes = 0;    ///< of the archive, that had to be waited for
  double wait_s = 0;               ///< that threads spent on getting bytes, summed over threads
  [[nodiscard]] double hit_ratio() const {
    const auto all = static_cast<double>(hit_bytes + miss_bytes);
    return all == 0 ? 0 : static_cast<double>(hit_bytes) / all;
  }
};

/// Any thread; each number is exact, but numbers read while requests run need not fit together.
class Counters {
 public:
  void count(Op op) { add(ops_[static_cast<std::size_t>(op)], 1); }
  void count_read(std::uint64_t bytes, std::chrono::nanoseconds waited) {
    add(read_bytes_, bytes);
    add(waited_ns_, static_cast<std::uint64_t>(waited.count()));
  }
  void count_pushed(std::uint64_t bytes) {
    count(Op::NotifyStore);
    add(pushed_bytes_, bytes);
  }

  [[nodiscard]] std::uint64_t of(Op op) const { return ops_[static_cast<std::size_t>(op)].value; }
  /// Bytes handed to the kernel in answer to READ.
  [[nodiscard]] std::uint64_t read_bytes() const { return read_bytes_.value; }
  /// Bytes stored in the kernel's page cache unasked.
  [[nodiscard]] std::uint64_t pushed_bytes() const { return pushed_bytes_.value; }
  /// Time that threads spent on getting the bytes of READs, summed over threads.
  [[nodiscard]] double waited_s() const {
    return static_cast<double>(waited_ns_.value.load()) / 1e9;
  }

 private:
  // Apart in memory: threads count different things at the same time.
  struct alignas(64) Counter {
    std::atomic<std::uint64_t> value{0};
  };
  static void add(Counter& to, std::uint64_t amount) {
    to.value.fetch_add(amount, std::memory_order_relaxed);
  }

  std::array<Counter, kOps> ops_;
  Counter read_bytes_, pushed_bytes_, waited_ns_;
};

}  // namespace shardfs
