#include "fs/mount/marks.h"

#include <utility>

namespace shardfs {

void Marks::add(Mark mark) {
  const std::lock_guard lock(mutex_);
  marks_.push_back(std::move(mark));
  if (marks_.size() > kMost) marks_.pop_front();
}

std::vector<Marks::Mark> Marks::all() const {
  const std::lock_guard lock(mutex_);
  return {marks_.begin(), marks_.end()};
}

}  // namespace shardfs
