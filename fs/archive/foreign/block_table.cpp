#include "fs/archive/foreign/block_table.h"

#include <algorithm>

#include <fmt/format.h>
#include <zstd.h>

#include "fs/tree/column_search.h"

namespace shardfs {

namespace {

constexpr std::size_t kCoderRow = 2;
constexpr std::size_t kStartRow = 32;
constexpr std::size_t kMaxWindow = 32 * 1024;

std::unexpected<Error> wrong(std::string what) {
  return fail(ErrorKind::Corrupt, "index: blocks: " + std::move(what));
}

}  // namespace

Result<BlockTable> BlockTable::open(const Index& index) {
  BlockTable table;
  const ByteSpan sizes = index.section(Section::BlockSizes);
  const std::uint64_t blocks =
      sizes.size() < sizeof(std::uint64_t) ? 0 : load<std::uint64_t>(sizes.data());
  if (blocks > index.superblock.index_size * 8) return wrong("there cannot be as many");
  SHARDFS_TRY(table.sizes_, PackedColumn::open(sizes, blocks));
  SHARDFS_TRY(table.gaps_, PackedColumn::open(index.section(Section::BlockGaps), blocks));
  SHARDFS_TRY(table.coder_numbers_,
              PackedColumn::open(index.section(Section::BlockCoders), blocks));
  SHARDFS_TRY(table.offsets_, PackedColumn::open(index.section(Section::FrameOffsets), blocks + 1));
  SHARDFS_TRY(table.positions_,
              PackedColumn::open(index.section(Section::FramePositions), blocks + 1));
  table.coders_ = index.section(Section::Coders);
  table.starts_ = index.section(Section::BlockStarts);
  table.windows_ = index.section(Section::Windows);
  table.piece_sums_ = index.section(Section::PieceSums);
  table.stream_size_ = index.superblock.tar_size;
  if (table.coders_.size() % kCoderRow != 0 || table.starts_.size() % kStartRow != 0 ||
      table.positions_[blocks] != table.stream_size_)
    return wrong("their tables do not fit");
  return table;
}

Result<ForeignBlock> BlockTable::at(std::uint64_t b) const {
  const std::uint64_t from = positions_[b], to = positions_[b + 1];
  const std::uint64_t coder = coder_numbers_[b];
  const std::uint64_t gap = gaps_[b];
  if (from > to || gap > to - from || coder >= coders_.size() / kCoderRow)
    return wrong(fmt::format("number {} is an impossible one", b));
  const std::byte* row = coders_.data() + coder * kCoderRow;
  return ForeignBlock{offsets_[b], sizes_[b], from, to - from - gap,
                      Coder{static_cast<Codec>(row[0]), std::to_integer<std::uint8_t>(row[1])}};
}

std::uint64_t BlockTable::find(std::uint64_t position) const {
  return last_not_above(positions_, position);
}

Result<std::optional<BlockStart>> BlockTable::start(std::uint64_t b) const {
  std::size_t low = 0,
              high = starts_.size() / kStartRow;  // rows before `low` are of blocks before b
  while (low < high) {
    const std::size_t middle = low + (high - low) / 2;
    const bool before = load<std::uint32_t>(starts_.data() + middle * kStartRow) < b;
    (before ? low : high) = before ? middle + 1 : middle;
  }
  if (low == starts_.size() / kStartRow) return std::nullopt;
  const std::byte* row = starts_.data() + low * kStartRow;
  if (load<std::uint32_t>(row) != b) return std::nullopt;
  const auto bits = load<std::uint32_t>(row + 4);
  const auto offset = load<std::uint64_t>(row + 8);
  const auto packed = load<std::uint32_t>(row + 16);
  const auto size = load<std::uint32_t>(row + 20);
  if (bits > 7 || size > kMaxWindow || offset > windows_.size() ||
      packed > windows_.size() - offset)
    return wrong(fmt::format("the start of number {} is an impossible one", b));
  BlockStart start{bits, Bytes(size), load<std::uint64_t>(row + 24)};
  if (size != 0 &&
      ZSTD_decompress(start.window.data(), size, windows_.data() + offset, packed) != size)
    return wrong(fmt::format("the window of number {} cannot be decoded", b));
  return start;
}

}  // namespace shardfs
