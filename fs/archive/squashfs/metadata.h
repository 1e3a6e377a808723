// A copy of a squashfs image's metadata.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "fs/base/byte_source.h"
#include "fs/base/result.h"
#include "fs/base/unique_fd.h"

// The library's headers do not know of C++.
extern "C" {
#include <squashfuse/decompress.h>
#include <squashfuse/squashfuse.h>
}

namespace shardfs {

/// An image's superblock and all behind its data, each at its place in a file in memory. They were
/// read in large requests; libsquashfuse, which reads a few KiB at a time, is given the copy.
///
/// Metadata are rows of blocks of up to 8 KiB, compressed each, and between the rows the indexes of
/// tables. Every block has been decoded once, so it is known what can be read from where. One
/// thread at a time.
class SquashfsMetadata {
 public:
  /// REQUIRES: places that lie in `source` and ascend, and a compressor that the library knows.
  /// Corrupt: what should be inodes is no metadata. Errors name the source.
  [[nodiscard]] static Result<SquashfsMetadata> copy(const ByteSource& source,
                                                     const squashfs_super_block& superblock);

  /// Stays owned by this object.
  [[nodiscard]] int fd() const { return file_.get(); }
  /// First and last place of it, bytes.
  [[nodiscard]] std::uint64_t begin() const { return begin_; }
  [[nodiscard]] std::uint64_t end() const { return end_; }

  /// Whether a block begins at the cursor's place and the cursor is in it, and `bytes` can be read
  /// from there on without leaving the row.
  [[nodiscard]] bool has(const sqfs_md_cursor& cursor, std::uint64_t bytes) const;
  /// What the blocks from place `from` to place `to` decode to, bytes.
  [[nodiscard]] std::uint64_t decoded(std::uint64_t from, std::uint64_t to) const;

  /// A row of a table as it lies in the image; zeros where it is not there.
  template <typename Row>
  [[nodiscard]] Row row_at(std::uint64_t place) const {
    Row row{};
    read(place, std::as_writable_bytes(std::span(&row, 1)));
    return row;
  }

 private:
  struct Block {
    std::uint64_t place = 0;
    std::uint64_t begin = 0;  ///< decoded bytes of all blocks in front of it
  };

  explicit SquashfsMetadata(const squashfs_super_block& superblock);
  [[nodiscard]] Result<void> map(std::uint64_t copied);
  [[nodiscard]] std::uint64_t index_at(std::uint64_t place) const;
  void add_block(bool compressed, std::uint16_t size);
  void end_row();
  void read(std::uint64_t place, std::span<std::byte> out) const;

  std::uint64_t begin_, end_;
  std::uint64_t directories_;  ///< where their table begins
  std::uint64_t map_end_;      ///< where the last row of blocks ends
  std::vector<std::pair<std::uint64_t, std::uint64_t>> indexes_;  ///< place and length
  sqfs_decompressor decode_;
  UniqueFd file_;
  std::uint64_t next_;         ///< the first block that is not in `blocks_` yet
  std::uint64_t decoded_ = 0;  ///< of all blocks
  std::vector<Block> blocks_;
  std::vector<std::uint64_t> row_ends_;  ///< as Block::begin
};

/// Bytes of the index of a table: a place for each of its blocks.
[[nodiscard]] std::uint64_t squashfs_index_size(std::uint64_t rows, std::uint64_t row_size);

/// What a superblock says where there is no such table.
inline constexpr std::uint64_t kNoSquashfsTable = UINT64_MAX;

}  // namespace shardfs
