// Hot ranges and decoded blocks, as LMDB values.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "cache/common/protocol.h"
#include "cache/server/database.h"
#include "cache/server/hot_ranges.h"
#include "fs/base/bytes.h"

namespace shardfs {

/// A bounded store in an environment of its own, empty at first: what it held is not worth a check
/// of each value. Every value holds its key and a checksum. Any thread that may wait for a disk;
/// one that finds the store busy for kPatience goes without it, so that a damaged database holds up
/// one thread at most.
class BlockStore {
 public:
  /// `directory` is emptied. `reach_bytes` as HotRanges.
  BlockStore(std::string directory, std::uint64_t capacity_bytes, std::uint64_t reach_bytes);

  /// The value, checked; nothing where it is not there.
  [[nodiscard]] std::optional<Bytes> get(const HotKey& key);

  /// Keeps `value`; what has to go for it goes.
  void put(const HotKey& key, ByteSpan value);

  /// Its value is damaged, or out of date.
  void drop(const HotKey& key);

  /// Another archive, for which HotRanges has another reach.
  void reach_at_least(std::uint64_t bytes);

  /// Counts a miss and says whether it is worth a put() now.
  [[nodiscard]] bool wants(const HotKey& key, std::uint64_t bytes);

  /// Whether a value of so many bytes fits without another one going. Never waits.
  [[nodiscard]] bool has_room(std::uint64_t bytes) const { return bytes_ + bytes <= capacity_; }

  /// Bytes of the values held. Never waits.
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

  static constexpr std::chrono::milliseconds kPatience{200};

 private:
  using Lock = std::unique_lock<std::mutex>;
  /// Not held where the store stayed busy for kPatience.
  [[nodiscard]] Lock try_lock();
  void erase(const std::vector<HotKey>& keys);

  const std::string directory_;
  const std::uint64_t capacity_;  ///< bytes of values
  std::mutex mutex_;
  std::optional<Database> database_;  ///< guarded by mutex_, like all below
  HotRanges ranges_;
  std::atomic<std::uint64_t> bytes_{0};  ///< as ranges_ has it
};

}  // namespace shardfs
