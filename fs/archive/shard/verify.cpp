#include "fs/archive/shard/verify.h"

#include <algorithm>

namespace shardfs {

void OrderedDigest::add(std::uint64_t turn, const std::vector<ByteSpan>& parts) {
  std::unique_lock lock(mutex_);
  turned_.wait(lock, [&] { return abandoned_ || turn_ == turn; });
  if (abandoned_) return;
  lock.unlock();
  for (const ByteSpan part : parts) digest_.update(part);
  lock.lock();
  ++turn_;
  turned_.notify_all();
}

void OrderedDigest::abandon() {
  const std::lock_guard lock(mutex_);
  abandoned_ = true;
  turned_.notify_all();
}

std::vector<ByteSpan> headers_in(const DataMap& map, std::uint64_t begin, ByteSpan bytes) {
  std::vector<ByteSpan> parts;
  const std::uint64_t end = begin + bytes.size();
  std::uint64_t at = begin;
  for (std::size_t i = map.first_behind(begin); i < map.size() && at < end; ++i) {
    const DataMap::Range range = map[i];
    if (range.position >= end) break;
    if (range.position > at) parts.push_back(bytes.subspan(at - begin, range.position - at));
    at = std::max(at, range.end());
  }
  if (at < end) parts.push_back(bytes.subspan(at - begin));
  return parts;
}

Result<void> compare(const ByteSource& source, std::uint64_t offset, ByteSpan expected,
                     std::string_view what, Findings& findings) {
  Bytes bytes(expected.size());
  SHARDFS_CHECK(source.read_at(offset, bytes));
  const auto at = std::ranges::mismatch(bytes, expected).in1 - bytes.begin();
  if (static_cast<std::size_t>(at) < bytes.size())
    findings.bad(std::string(what), 0, offset + static_cast<std::uint64_t>(at));
  return findings.checked(bytes.size());
}

}  // namespace shardfs
