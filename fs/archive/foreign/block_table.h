// The blocks of a foreign archive: where each lies in its file and in the logical stream.
#pragma once

#include <cstdint>
#include <optional>

#include "fs/archive/foreign/codec.h"
#include "fs/base/result.h"
#include "fs/tree/index.h"
#include "fs/tree/packed_column.h"

namespace shardfs {

/// Blocks of more bytes are decoded in steps, and an archive that has one counts as Sequential.
/// Some twice what `xz -T` makes at its default level (24 MiB).
inline constexpr std::uint64_t kMaxWhole = 64 * 1024 * 1024;
/// And those of more packed bytes: what does not compress becomes a little more, but empty frames
/// may make any number of them.
inline constexpr std::uint64_t kMostPacked = kMaxWhole + kMaxWhole / 4;
constexpr bool is_in_steps(std::uint64_t packed_bytes, std::uint64_t decoded) {
  return decoded > kMaxWhole || packed_bytes > kMostPacked;
}

/// In blocks of at least as many bytes it matters that all that is before must be decoded too: an
/// archive that has one counts as Frame.
inline constexpr std::uint64_t kReadInPlace = 64 * 1024;

/// One block, as LayoutBuilder::add() was told of it.
struct ForeignBlock {
  std::uint64_t offset = 0;    ///< in the file, bytes (Bzip2: bits; Slice: a position)
  std::uint64_t packed = 0;    ///< there, at most
  std::uint64_t position = 0;  ///< of its first byte in the logical stream
  std::uint64_t length = 0;    ///< what it decodes to (Squashfs: at most)
  Coder coder;
};

/// A view over an index, which must outlive it. Immutable; any thread.
class BlockTable {
 public:
  /// Corrupt, without a file's name, if the tables do not fit each other.
  [[nodiscard]] static Result<BlockTable> open(const Index& index);

  [[nodiscard]] std::uint64_t size() const { return sizes_.size(); }
  /// Corrupt if it is no possible one. REQUIRES: b < size().
  [[nodiscard]] Result<ForeignBlock> at(std::uint64_t b) const;
  /// The last block that begins at `position` or before. REQUIRES: size() != 0.
  [[nodiscard]] std::uint64_t find(std::uint64_t position) const;
  /// What block `b` needs to begin inside a stream; nothing for most. Corrupt if it cannot be.
  [[nodiscard]] Result<std::optional<BlockStart>> start(std::uint64_t b) const;
  /// The checksum of piece `number` of the decoded stream; 0 if it is not known.
  [[nodiscard]] std::uint64_t piece_sum(std::uint64_t number) const {
    if (number >= piece_sums_.size() / sizeof(std::uint64_t)) return 0;
    return load<std::uint64_t>(piece_sums_.data() + number * sizeof(std::uint64_t));
  }
  /// One past the last position.
  [[nodiscard]] std::uint64_t stream_size() const { return stream_size_; }

 private:
  PackedColumn offsets_, positions_, sizes_, gaps_, coder_numbers_;
  ByteSpan coders_, starts_, windows_, piece_sums_;
  std::uint64_t stream_size_ = 0;
};

}  // namespace shardfs
