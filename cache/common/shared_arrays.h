// What a cache server and its clients know together, in memory that they share.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "cache/common/units.h"
#include "fs/base/bytes.h"
#include "fs/base/checksum.h"
#include "fs/base/result.h"
#include "fs/base/unique_fd.h"

namespace shardfs {

/// Memory behind a descriptor, mapped shared. Its size is sealed, so that no process can make
/// another's access to it a SIGBUS. Move-only.
class SharedMemory {
 public:
  SharedMemory() = default;
  /// `bytes` zeros.
  [[nodiscard]] static Result<SharedMemory> create(const char* name, std::size_t bytes);
  /// What another process made. Invalid: smaller than `bytes`, or its size is not sealed.
  [[nodiscard]] static Result<SharedMemory> map(UniqueFd fd, std::size_t bytes, bool writable);

  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&& other) noexcept;
  ~SharedMemory();

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] int fd() const { return fd_.get(); }
  /// A descriptor of the same memory that cannot be written through.
  [[nodiscard]] Result<UniqueFd> read_only_fd() const;

 private:
  UniqueFd fd_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Which units are in the mirror: written by the server, read by clients. What it says is a hint:
/// a unit may go while it is being read, so readers check what they read. Any thread.
class UnitMap {
 public:
  UnitMap() = default;
  explicit UnitMap(SharedMemory memory) : memory_(std::move(memory)) {}

  [[nodiscard]] bool contains(Unit unit) const {
    return at(unit).load(std::memory_order_acquire) != 0;
  }
  void set(Unit unit, bool present) { at(unit).store(present ? 1 : 0, std::memory_order_release); }
  [[nodiscard]] const SharedMemory& memory() const { return memory_; }

 private:
  [[nodiscard]] std::atomic_ref<std::uint8_t> at(Unit unit) const {
    return std::atomic_ref(reinterpret_cast<std::uint8_t*>(memory_.data())[unit]);
  }
  SharedMemory memory_;
};

/// Sums of a unit's bytes.
[[nodiscard]] inline ChunkSums chunk_sums(ByteSpan unit) {
  ChunkSums sums{};
  for (std::size_t i = 0; i * kChunkBytes < unit.size(); ++i)
    sums[i] =
        checksum64(unit.subspan(i * kChunkBytes)
                       .first(std::min<std::size_t>(kChunkBytes, unit.size() - i * kChunkBytes)));
  return sums;
}

/// Checksums of the units that are in the mirror, chunk by chunk: written by the server before it
/// says that a unit is there, read by clients whose archive has none of its own. Any thread.
class SumMap {
 public:
  SumMap() = default;
  explicit SumMap(SharedMemory memory) : memory_(std::move(memory)) {}

  [[nodiscard]] std::uint64_t of(Unit unit, std::size_t chunk) const {
    return at(unit, chunk).load(std::memory_order_relaxed);
  }
  void set(Unit unit, const ChunkSums& sums) {
    for (std::size_t i = 0; i < sums.size(); ++i)
      at(unit, i).store(sums[i], std::memory_order_relaxed);
  }
  [[nodiscard]] ChunkSums all_of(Unit unit) const {
    ChunkSums sums{};
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] = of(unit, i);
    return sums;
  }
  [[nodiscard]] const SharedMemory& memory() const { return memory_; }

  static constexpr std::size_t kBytesPerUnit = sizeof(ChunkSums);

 private:
  [[nodiscard]] std::atomic_ref<std::uint64_t> at(Unit unit, std::size_t chunk) const {
    return std::atomic_ref(
        reinterpret_cast<std::uint64_t*>(memory_.data())[unit * kChunksPerUnit + chunk]);
  }
  SharedMemory memory_;
};

/// How often and how much of each unit was read: written by clients, emptied by the server. A
/// client that writes nonsense spoils the choice of what is kept, nothing else. Any thread.
class TouchMap {
 public:
  struct Touches {
    std::uint32_t reads = 0;
    std::uint64_t bytes = 0;
  };

  TouchMap() = default;
  explicit TouchMap(SharedMemory memory) : memory_(std::move(memory)) {}

  /// `is_new`: it does not go on where an earlier read of the same file ended.
  void add(Unit unit, std::uint64_t bytes, bool is_new) {
    at(unit).fetch_add((std::uint64_t{is_new} << kReadsShift) | (bytes / kGrain + 1),
                       std::memory_order_relaxed);
  }
  /// What has come in since the last call.
  [[nodiscard]] Touches take(Unit unit) {
    if (at(unit).load(std::memory_order_relaxed) == 0) return {};
    const std::uint64_t all = at(unit).exchange(0, std::memory_order_relaxed);
    return {static_cast<std::uint32_t>(all >> kReadsShift),
            (all & ((std::uint64_t{1} << kReadsShift) - 1)) * kGrain};
  }
  [[nodiscard]] const SharedMemory& memory() const { return memory_; }

  static constexpr std::size_t kBytesPerUnit = sizeof(std::uint64_t);

 private:
  static constexpr unsigned kReadsShift = 40;
  static constexpr std::uint64_t kGrain = 512;

  [[nodiscard]] std::atomic_ref<std::uint64_t> at(Unit unit) const {
    return std::atomic_ref(reinterpret_cast<std::uint64_t*>(memory_.data())[unit]);
  }
  SharedMemory memory_;
};

}  // namespace shardfs
