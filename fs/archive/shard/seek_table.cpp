#include "fs/archive/shard/seek_table.h"

namespace shardfs {

namespace {

constexpr std::uint32_t kIndexMagic = 0x184D2A53;
constexpr std::uint32_t kSeekMagic = 0x184D2A5E;
constexpr std::uint32_t kSeekableMagic = 0x8F92EAB1;

void append_32(Bytes& to, std::uint64_t value) { append(to, static_cast<std::uint32_t>(value)); }

}  // namespace

Bytes index_frame_header(std::uint64_t index_size) {
  Bytes bytes;
  append(bytes, kIndexMagic);
  append_32(bytes, index_size);
  return bytes;
}

Bytes encode_seek_table(std::span<const std::uint64_t> offsets,
                        std::span<const std::uint64_t> positions, std::uint64_t index_size) {
  const std::size_t frames = offsets.size() - 1;
  Bytes bytes;
  bytes.reserve(seek_table_size(frames));
  append(bytes, kSeekMagic);
  append_32(bytes, seek_table_size(frames) - kFrameHeader);
  for (std::size_t f = 0; f < frames; ++f) {
    append_32(bytes, offsets[f + 1] - offsets[f]);
    append_32(bytes, positions[f + 1] - positions[f]);
  }
  append_32(bytes, kFrameHeader + index_size);
  append_32(bytes, 0);
  append_32(bytes, frames + 1);
  append(bytes, std::uint8_t{0});
  append(bytes, kSeekableMagic);
  return bytes;
}

bool ends_in_seek_table(ByteSpan file_end) {
  return file_end.size() >= 4 &&
         load<std::uint32_t>(file_end.data() + file_end.size() - 4) == kSeekableMagic;
}

std::optional<SeekFooter> decode_seek_footer(ByteSpan file_end) {
  if (file_end.size() < kSeekRow + kSeekFooter || !ends_in_seek_table(file_end))
    return std::nullopt;
  const std::byte* footer = file_end.data() + file_end.size() - kSeekFooter;
  const auto frames = load<std::uint32_t>(footer);
  const auto index_frame = load<std::uint32_t>(footer - kSeekRow);
  const auto decoded = load<std::uint32_t>(footer - kSeekRow + 4);
  if (frames < 2 || footer[4] != std::byte{0} || decoded != 0 || index_frame <= kFrameHeader)
    return std::nullopt;
  return SeekFooter{frames - 1, index_frame};
}

}  // namespace shardfs
