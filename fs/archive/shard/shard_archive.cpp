#include "fs/archive/shard/shard_archive.h"

#include <algorithm>

#include <fmt/format.h>

#include "fs/base/checksum.h"

namespace shardfs {

ArchiveInfo ShardArchive::info() const {
  const bool tar = superblock().container == Container::Tar;
  ArchiveInfo info = counts();
  info.format = "shard";
  info.container = tar ? "tar" : "tar.zst";
  info.access = tar ? "random" : "frame";
  info.checksum = "xxh3-64";
  return info;
}

Result<void> ShardArchive::load_checksums() const {
  const SectionPlace& place = superblock().place(Section::Checksums);
  SHARDFS_TRY(PageBuffer bytes, read_index(*storage_, place.offset, place.length));
  if (place.length != 0 && checksum64(bytes) != place.checksum)
    return fail(ErrorKind::Corrupt,
                fmt::format("{}: index: section {} is damaged: its checksum does not hold",
                            source().name(), static_cast<unsigned>(Section::Checksums)));
  checksums_ = std::move(bytes);
  return {};
}

Result<ByteSpan> ShardArchive::checksums(Wait wait) const {
  if (!loaded_.load(std::memory_order_acquire)) {
    if (wait == Wait::No && source().may_wait()) return would_wait();
    const std::lock_guard lock(mutex_);
    if (!loaded_.load(std::memory_order_relaxed)) {
      SHARDFS_CHECK(load_checksums());
      loaded_.store(true, std::memory_order_release);
    }
  }
  return checksums_;
}

Bytes ShardArchive::index_bytes(std::uint64_t offset, std::uint64_t size) const {
  const ByteSpan front(index().bytes);
  const std::uint64_t split = std::min<std::uint64_t>(front.size(), superblock().tree_size());
  Bytes bytes(size);
  const std::uint64_t end = offset + size;
  if (offset < split)
    std::ranges::copy(front.subspan(offset, std::min(end, split) - offset), bytes.begin());
  if (end > split) {
    const std::uint64_t begin = std::max(offset, split);
    std::ranges::copy(ByteSpan(checksums_).subspan(begin - split, end - begin),
                      bytes.begin() + static_cast<std::ptrdiff_t>(begin - offset));
  }
  return bytes;
}

}  // namespace shardfs
