// The frames of a `.tar.zst` shard: where each lies in the file and in the tar stream.
#pragma once

#include <cstdint>
#include <span>

#include "fs/base/bytes.h"
#include "fs/base/result.h"
#include "fs/tree/index.h"
#include "fs/tree/packed_column.h"

namespace shardfs {

/// One frame. Bytes.
struct FrameRange {
  std::uint64_t offset = 0;       ///< in the file
  std::uint64_t packed_size = 0;  ///< there
  std::uint64_t position = 0;     ///< of its first decoded byte in the tar stream
  std::uint64_t decoded_size = 0;
};

/// A view over an index, which must outlive it. Immutable; any thread.
class FrameTable {
 public:
  /// Corrupt (without a file's name) if the tables are not `frames` frames that begin at the
  /// archive's first byte and end at the index.
  [[nodiscard]] static Result<FrameTable> open(const Index& index, std::uint64_t frames);

  [[nodiscard]] std::uint64_t size() const { return offsets_.size() - 1; }
  /// Frame `f`; Corrupt if it is no possible one. REQUIRES: f < size().
  [[nodiscard]] Result<FrameRange> at(std::uint64_t f) const;
  /// The frame that holds the byte at `position`. REQUIRES: position < stream_size().
  [[nodiscard]] std::uint64_t find(std::uint64_t position) const;
  /// Bytes of the tar stream, closing zeros included.
  [[nodiscard]] std::uint64_t stream_size() const { return positions_[size()]; }

  [[nodiscard]] std::uint64_t offset(std::uint64_t f) const { return offsets_[f]; }
  [[nodiscard]] std::uint64_t position(std::uint64_t f) const { return positions_[f]; }

 private:
  PackedColumn offsets_, positions_;
};

/// Decodes one frame that must give exactly `to.size()` bytes; says what is wrong with it
/// otherwise. Any thread; keeps a context per thread.
[[nodiscard]] bool decode_frame(ByteSpan frame, std::span<std::byte> to);

}  // namespace shardfs
