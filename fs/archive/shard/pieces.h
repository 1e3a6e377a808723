// Pieces: the runs of a file's bytes that have a checksum each in a `.tar` shard (FORMAT.md 3.3).
#pragma once

#include <cstdint>
#include <vector>

#include "fs/base/bytes.h"

namespace shardfs {

inline constexpr std::uint64_t kPieceBytes = 64 * 1024;

[[nodiscard]] constexpr std::uint64_t pieces_of(std::uint64_t file_size) {
  return (file_size + kPieceBytes - 1) / kPieceBytes;
}

/// The checksums of a file's pieces, from bytes that come in parts.
class PieceHasher {
 public:
  void update(ByteSpan bytes);
  /// All checksums, in order; the hasher is new afterwards.
  [[nodiscard]] std::vector<std::uint64_t> finish();

 private:
  Bytes partial_;
  std::vector<std::uint64_t> checksums_;
};

/// The checksums of the pieces of a file that is there whole.
[[nodiscard]] std::vector<std::uint64_t> piece_checksums(ByteSpan file);

}  // namespace shardfs
