#include "fs/archive/shard/zst_archive.h"

#include <algorithm>

#include <fmt/format.h>

#include "fs/base/checksum.h"

namespace shardfs {

Result<std::unique_ptr<Archive>> ZstArchive::open(OpenedShard shard, std::uint64_t frames) {
  auto table = FrameTable::open(*shard.index, frames);
  if (!table) return fail(table.error().kind, shard.source->name() + ": " + table.error().message);
  return std::unique_ptr<Archive>(new ZstArchive(std::move(shard), *table));
}

/// Copies the part of `block` that the request wants next.
void ZstArchive::copy(Request& request, const std::shared_ptr<const DecodedBlock>& block) const {
  const std::uint64_t from = request.begin - block->position;
  const std::uint64_t size =
      std::min<std::uint64_t>(block->bytes.size() - from, request.end - request.begin);
  std::ranges::copy(ByteSpan(block->bytes).subspan(from, size), request.out);
  request.out += size;
  request.begin += size;
  if (request.decoded != nullptr) *request.decoded = block;
}

/// A frame that is not what it should be is fetched once more, from its origin.
Result<void> ZstArchive::check_frame(const Request& request, std::uint64_t f,
                                     std::span<std::byte> packed) const {
  SHARDFS_TRY(const ByteSpan sums, checksums(request.wait));
  const auto expected = load<std::uint64_t>(sums.data() + f * sizeof(std::uint64_t));
  if (checksum64(packed) == expected) return {};
  const std::uint64_t offset = frames_.offset(f);
  if (source().may_wait()) {
    if (request.wait == Wait::No) return would_wait();
    if (auto done = source().reread_at(offset, packed); !done)
      return cannot_read(std::move(done).error(), request.inode, "frame", f, offset);
    if (checksum64(packed) == expected) return {};
  }
  return damaged(request.inode, "damaged", "frame", f, offset);
}

/// Checks and decodes a frame that begins where the request goes on, or in front of it.
Result<void> ZstArchive::take_frame(Request& request, std::uint64_t f,
                                    std::span<std::byte> packed) const {
  SHARDFS_TRY(const FrameRange frame, frames_.at(f));
  SHARDFS_CHECK(check_frame(request, f, packed));
  const bool whole =
      frame.position == request.begin && frame.decoded_size <= request.end - request.begin;
  if (whole) {
    if (!decode_frame(packed, {request.out, frame.decoded_size}))
      return damaged(request.inode, "cannot be decoded", "frame", f, frame.offset);
    request.out += frame.decoded_size;
    request.begin += frame.decoded_size;
    return {};
  }
  auto block = std::make_shared<DecodedBlock>();
  block->position = frame.position;
  block->bytes.resize(frame.decoded_size);
  if (!decode_frame(packed, block->bytes))
    return damaged(request.inode, "cannot be decoded", "frame", f, frame.offset);
  cache_.insert(f, block);
  copy(request, block);
  return {};
}

/// One past the last frame that is read together with `first`.
Result<std::uint64_t> ZstArchive::batch_end(const Request& request, std::uint64_t first) const {
  SHARDFS_TRY(const FrameRange start, frames_.at(first));
  std::uint64_t f = first + 1;
  while (f < frames_.size() && frames_.position(f) < request.end) {
    SHARDFS_TRY(const FrameRange next, frames_.at(f));
    if (next.offset + next.packed_size - start.offset > kStoreRequest) break;
    ++f;
  }
  return f;
}

Result<void> ZstArchive::read_batch(Request& request, std::uint64_t first,
                                    std::uint64_t last) const {
  thread_local Bytes packed;
  const std::uint64_t offset = frames_.offset(first);
  const std::uint64_t size = frames_.offset(last) - offset;
  if (packed.size() < size) packed.resize(size);
  const auto bytes = std::span(packed).first(size);
  if (auto done = request.wait == Wait::No ? source().try_read_at(offset, bytes)
                                           : source().read_at(offset, bytes);
      !done)
    return cannot_read(std::move(done).error(), request.inode, "frame", first, offset);
  for (std::uint64_t f = first; f < last; ++f) {
    const std::uint64_t from = frames_.offset(f) - offset;
    const std::uint64_t to = frames_.offset(f + 1) - offset;
    SHARDFS_CHECK(take_frame(request, f, bytes.subspan(from, to - from)));
  }
  return {};
}

/// Reads and decodes what the request wants.
Result<void> ZstArchive::fill(Request& request) const {
  while (request.begin < request.end) {
    const std::uint64_t first = frames_.find(request.begin);
    if (const auto block = cache_.find(first)) {
      copy(request, block);
      continue;
    }
    SHARDFS_TRY(const std::uint64_t last, batch_end(request, first));
    SHARDFS_CHECK(read_batch(request, first, last));
  }
  return {};
}

Result<std::size_t> ZstArchive::read_some(Entry inode, std::uint64_t offset,
                                          std::span<std::byte> out, Wait wait,
                                          std::shared_ptr<const DecodedBlock>* decoded) const {
  SHARDFS_TRY(const std::uint64_t wanted, readable(inode, offset, out.size()));
  if (wanted == 0) return 0;
  SHARDFS_TRY(const std::uint64_t position, data_position(inode, superblock().tar_size));
  Request request{inode, position + offset, position + offset + wanted, out.data(), decoded, wait};
  SHARDFS_CHECK(fill(request));
  return wanted;
}

Result<void> ZstArchive::window(Entry inode, std::uint64_t size, DecodedBlock& block) const {
  SHARDFS_TRY(const Stretch wanted, stretch(inode, size, superblock().tar_size));
  block.position = wanted.begin;
  block.bytes.resize(wanted.end - wanted.begin);
  Request request{inode, wanted.begin, wanted.end, block.bytes.data(), nullptr, Wait::Yes};
  return fill(request);
}

Result<std::vector<Extent>> ZstArchive::extents(Entry inode) const {
  const std::uint64_t whole = UINT64_MAX;
  SHARDFS_TRY(const std::uint64_t size, readable(inode, 0, whole));
  std::vector<Extent> list;
  if (size == 0) return list;
  SHARDFS_TRY(const std::uint64_t position, data_position(inode, superblock().tar_size));
  const std::uint64_t end = position + size;
  for (std::uint64_t f = frames_.find(position), at = position; at < end; ++f) {
    SHARDFS_TRY(const FrameRange frame, frames_.at(f));
    const std::uint64_t stop = std::min(end, frame.position + frame.decoded_size);
    list.push_back({.offset = frame.offset,
                    .length = frame.packed_size,
                    .stored = false,
                    .skip = at - frame.position,
                    .decoded = stop - at});
    at = stop;
  }
  return list;
}

}  // namespace shardfs
