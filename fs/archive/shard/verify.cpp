#include "fs/archive/shard/verify.h"

#include <algorithm>
#include <string_view>

#include <sys/stat.h>

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

namespace {

/// Adds a regular file to the totals.
Result<void> check_entry(const Tree& tree, Entry entry, std::uint64_t& files,
                         std::uint64_t& bytes) {
  SHARDFS_TRY(const Attributes attributes, tree.attributes(entry));
  SHARDFS_CHECK(tree.xattrs(entry));
  if (S_ISDIR(attributes.mode))
    SHARDFS_CHECK(tree.children(entry, 0, [](Entry, std::string_view) { return true; }));
  if (S_ISLNK(attributes.mode)) SHARDFS_CHECK(tree.link(entry));
  if (!S_ISREG(attributes.mode) || attributes.inode != entry) return {};
  SHARDFS_CHECK(tree.holes(entry));
  ++files;
  bytes += attributes.size;
  return {};
}

}  // namespace

void check_entries(const Index& index, const Tree& tree, Findings& findings) {
  const Superblock& s = index.superblock;
  std::uint64_t files = 0, bytes = 0;
  bool good = true;
  for (std::uint64_t e = 0; e < tree.entries() && good; ++e)
    good = check_entry(tree, static_cast<Entry>(e), files, bytes).has_value();
  if (!good || files != s.files || bytes != s.file_bytes)
    findings.bad("index", 0, s.index_position);
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
