#include "fs/archive/block_cache.h"

#include <utility>

namespace shardfs {

BlockCache::Block BlockCache::find(std::uint64_t frame) {
  const std::lock_guard lock(mutex_);
  const auto found = by_frame_.find(frame);
  if (found == by_frame_.end()) return nullptr;
  newest_first_.splice(newest_first_.begin(), newest_first_, found->second);
  return found->second->block;
}

void BlockCache::insert(std::uint64_t frame, Block block) {
  std::list<Slot> dropped;  // freed without the lock
  const std::lock_guard lock(mutex_);
  if (by_frame_.contains(frame)) return;
  bytes_ += block->bytes.size();
  newest_first_.push_front({frame, std::move(block)});
  by_frame_[frame] = newest_first_.begin();
  while (bytes_ > limit_ && newest_first_.size() > 1) {
    bytes_ -= newest_first_.back().block->bytes.size();
    by_frame_.erase(newest_first_.back().frame);
    dropped.splice(dropped.begin(), newest_first_, std::prev(newest_first_.end()));
  }
}

}  // namespace shardfs
