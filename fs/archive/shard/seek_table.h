// The frames at the end of a `.tar.zst` shard that zstd readers skip: the index frame and the seek
// table of zstd's seekable format (FORMAT.md, section 5).
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "fs/base/bytes.h"

namespace shardfs {

inline constexpr std::uint64_t kFrameHeader = 8;  ///< of a skippable frame: magic, length
inline constexpr std::uint64_t kSeekRow = 8;
inline constexpr std::uint64_t kSeekFooter = 9;
/// A frame of more decoded bytes is neither written nor believed.
inline constexpr std::uint64_t kMaxDecodedFrame = 32 * 1024 * 1024;

/// Bytes of a seek table for `frames` frames besides the index frame.
[[nodiscard]] constexpr std::uint64_t seek_table_size(std::uint64_t frames) {
  return kFrameHeader + kSeekRow * (frames + 1) + kSeekFooter;
}

/// Magic and length that go before the index.
[[nodiscard]] Bytes index_frame_header(std::uint64_t index_size);

/// The seek table. `offsets` and `positions` have one more value than there are frames.
[[nodiscard]] Bytes encode_seek_table(std::span<const std::uint64_t> offsets,
                                      std::span<const std::uint64_t> positions,
                                      std::uint64_t index_size);

/// What the end of a file tells of its seek table.
struct SeekFooter {
  std::uint64_t frames = 0;            ///< besides the index frame
  std::uint64_t index_frame_size = 0;  ///< bytes in the file, header included
};

/// From the last bytes of a file, at least one row and the footer. None if there is no seek table
/// or its last frame is not an index frame.
[[nodiscard]] std::optional<SeekFooter> decode_seek_footer(ByteSpan file_end);

/// Whether a file that ends like this ends in some seek table.
[[nodiscard]] bool ends_in_seek_table(ByteSpan file_end);

}  // namespace shardfs
