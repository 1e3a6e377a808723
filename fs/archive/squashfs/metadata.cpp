#include "fs/archive/squashfs/metadata.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include <sys/mman.h>
#include <unistd.h>

#include "fs/base/bytes.h"

namespace shardfs {

namespace {

Result<void> write_at(int fd, std::uint64_t offset, ByteSpan bytes) {
  while (!bytes.empty()) {
    const ssize_t done = pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return fail_errno(errno, "squashfs metadata", "cannot be kept in memory");
    offset += static_cast<std::uint64_t>(done);
    bytes = bytes.subspan(static_cast<std::size_t>(done));
  }
  return {};
}

}  // namespace

std::uint64_t squashfs_index_size(std::uint64_t rows, std::uint64_t row_size) {
  return sqfs_divceil(rows * row_size, SQUASHFS_METADATA_SIZE) * sizeof(std::uint64_t);
}

SquashfsMetadata::SquashfsMetadata(const squashfs_super_block& superblock)
    : begin_(superblock.inode_table_start),
      end_(superblock.bytes_used),
      directories_(superblock.directory_table_start),
      map_end_(std::min<std::uint64_t>(end_, superblock.xattr_id_table_start)),
      decode_(sqfs_decompressor_get(superblock.compression)),
      next_(begin_) {
  indexes_ = {
      {superblock.fragment_table_start,
       squashfs_index_size(superblock.fragments, sizeof(squashfs_fragment_entry))},
      {superblock.lookup_table_start,
       squashfs_index_size(superblock.inodes, sizeof(std::uint64_t))},
      {superblock.id_table_start, squashfs_index_size(superblock.no_ids, sizeof(std::uint32_t))}};
}

Result<SquashfsMetadata> SquashfsMetadata::copy(const ByteSource& source,
                                                const squashfs_super_block& superblock) {
  SquashfsMetadata copy(superblock);
  copy.file_.reset(memfd_create("squashfs", MFD_CLOEXEC));
  if (!copy.file_) return fail_errno(errno, source.name(), "cannot make a file in memory");
  // What finds inodes by number is not needed, so it need not be right.
  squashfs_super_block head = superblock;
  head.lookup_table_start = kNoSquashfsTable;
  SHARDFS_CHECK(write_at(copy.fd(), 0, std::as_bytes(std::span(&head, 1))));
  Bytes part(std::min(kStoreRequest, copy.end_ - copy.begin_));
  for (std::uint64_t at = copy.begin_; at < copy.end_;) {
    const auto bytes = std::span(part).first(std::min<std::uint64_t>(part.size(), copy.end_ - at));
    SHARDFS_CHECK(source.read_at(at, bytes));
    SHARDFS_CHECK(write_at(copy.fd(), at, bytes));
    at += bytes.size();
    // Where a superblock lies about their place, this ends before the whole image is copied.
    if (auto done = copy.map(at); !done)
      return fail(done.error().kind, source.name() + ": " + done.error().message);
  }
  copy.end_row();
  return copy;
}

/// Follows the rows of blocks as far as they were copied.
Result<void> SquashfsMetadata::map(std::uint64_t copied) {
  constexpr std::uint64_t kHeader = sizeof(std::uint16_t);
  while (next_ < map_end_) {
    if (const std::uint64_t length = index_at(next_); length > 0) {
      end_row();
      next_ += length;
      continue;
    }
    if (next_ + kHeader > copied) break;
    bool compressed = false;
    std::uint16_t size = 0;
    sqfs_md_header(row_at<std::uint16_t>(next_), &compressed, &size);
    if (size > SQUASHFS_METADATA_SIZE) {
      if (next_ < directories_) return fail(ErrorKind::Corrupt, "damaged metadata");
      map_end_ = next_;  // What refers to more will say so.
      break;
    }
    if (next_ + kHeader + size > copied) break;
    add_block(compressed, size);
    next_ += kHeader + size;
  }
  return {};
}

/// Length of the index that begins at `place`; 0 if there is none.
std::uint64_t SquashfsMetadata::index_at(std::uint64_t place) const {
  const auto found = std::ranges::find_if(
      indexes_, [place](const auto& i) { return i.first == place && i.second > 0; });
  return found == indexes_.end() ? 0 : found->second;
}

/// Adds the block at `next_`. One that cannot be decoded, or is empty, ends its row: the library
/// would look at any number of empty ones for each byte that it wants.
void SquashfsMetadata::add_block(bool compressed, std::uint16_t size) {
  std::array<std::byte, SQUASHFS_METADATA_SIZE> packed, plain;
  std::size_t decoded = size;
  if (compressed) {
    read(next_ + sizeof(std::uint16_t), std::span(packed).first(size));
    decoded = plain.size();
    if (decode_(packed.data(), size, plain.data(), &decoded) != SQFS_OK) decoded = 0;
  }
  if (decoded == 0) return end_row();
  blocks_.push_back({next_, decoded_});
  decoded_ += decoded;
}

void SquashfsMetadata::end_row() {
  if (row_ends_.empty() || row_ends_.back() != decoded_) row_ends_.push_back(decoded_);
}

void SquashfsMetadata::read(std::uint64_t place, std::span<std::byte> out) const {
  const ssize_t done = pread(fd(), out.data(), out.size(), static_cast<off_t>(place));
  std::ranges::fill(out.subspan(static_cast<std::size_t>(std::max<ssize_t>(done, 0))), std::byte{});
}

bool SquashfsMetadata::has(const sqfs_md_cursor& cursor, std::uint64_t bytes) const {
  const auto place = static_cast<std::uint64_t>(cursor.block);
  const auto block = std::ranges::lower_bound(blocks_, place, {}, &Block::place);
  if (block == blocks_.end() || block->place != place) return false;
  const auto next = block + 1;
  const std::uint64_t size = (next == blocks_.end() ? decoded_ : next->begin) - block->begin;
  if (cursor.offset >= size) return false;
  const std::uint64_t row_end = *std::ranges::upper_bound(row_ends_, block->begin);
  return bytes <= row_end - block->begin - cursor.offset;
}

std::uint64_t SquashfsMetadata::decoded(std::uint64_t from, std::uint64_t to) const {
  const auto before = [this](std::uint64_t place) {
    const auto block = std::ranges::lower_bound(blocks_, place, {}, &Block::place);
    return block == blocks_.end() ? decoded_ : block->begin;
  };
  return to > from ? before(to) - before(from) : 0;
}

}  // namespace shardfs
