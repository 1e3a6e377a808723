// The decoded frames that were used last, so that neighbours are not decoded again.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "fs/archive/archive.h"

namespace shardfs {

/// At most `limit` bytes (and always the newest block). Any thread.
class BlockCache {
 public:
  using Block = std::shared_ptr<const DecodedBlock>;

  explicit BlockCache(std::uint64_t limit) : limit_(limit) {}

  /// Null if it is not there.
  [[nodiscard]] Block find(std::uint64_t frame);
  void insert(std::uint64_t frame, Block block);

 private:
  struct Slot {
    std::uint64_t frame = 0;
    Block block;
  };

  const std::uint64_t limit_;
  std::mutex mutex_;
  std::list<Slot> newest_first_;  ///< guarded by mutex_, like all below
  std::unordered_map<std::uint64_t, std::list<Slot>::iterator> by_frame_;
  std::uint64_t bytes_ = 0;
};

}  // namespace shardfs
