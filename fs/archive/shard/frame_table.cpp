#include "fs/archive/shard/frame_table.h"

#include <fmt/format.h>

#include "fs/archive/shard/seek_table.h"
#include "fs/archive/zstd_contexts.h"
#include "fs/tree/column_search.h"

namespace shardfs {

namespace {

std::unexpected<Error> wrong(std::string what) {
  return fail(ErrorKind::Corrupt, "index: frames: " + std::move(what));
}

}  // namespace

Result<FrameTable> FrameTable::open(const Index& index, std::uint64_t frames) {
  FrameTable table;
  SHARDFS_TRY(table.offsets_, PackedColumn::open(index.section(Section::FrameOffsets), frames + 1));
  SHARDFS_TRY(table.positions_,
              PackedColumn::open(index.section(Section::FramePositions), frames + 1));
  const Superblock& s = index.superblock;
  if (s.place(Section::Checksums).length != frames * sizeof(std::uint64_t))
    return wrong("their checksums are not as many as they");
  if (table.offsets_[0] != 0 || table.positions_[0] != 0)
    return wrong("the first one does not begin the archive");
  if (table.offsets_[frames] != s.index_position || table.stream_size() < s.tar_size)
    return wrong("the last one does not end before the index");
  return table;
}

Result<FrameRange> FrameTable::at(std::uint64_t f) const {
  const std::uint64_t begin = offsets_[f], end = offsets_[f + 1];
  const std::uint64_t from = positions_[f], to = positions_[f + 1];
  const bool ordered = begin < end && end <= offsets_[size()] && from < to;
  if (!ordered || to - from > kMaxDecodedFrame ||
      end - begin > ZSTD_compressBound(kMaxDecodedFrame))
    return wrong(fmt::format("number {} has an impossible size", f));
  return FrameRange{begin, end - begin, from, to - from};
}

std::uint64_t FrameTable::find(std::uint64_t position) const {
  return last_not_above(positions_, position);
}

bool decode_frame(ByteSpan frame, std::span<std::byte> to) {
  if (ZSTD_getFrameContentSize(frame.data(), frame.size()) != to.size()) return false;
  thread_local const ZstdDecoderContext context(ZSTD_createDCtx());
  if (!context) return false;
  return ZSTD_decompressDCtx(context.get(), to.data(), to.size(), frame.data(), frame.size()) ==
         to.size();
}

}  // namespace shardfs
