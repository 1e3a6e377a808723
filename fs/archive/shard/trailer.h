// The trailer of a `.tar` shard: the last global header, which tells where the index stands
// (FORMAT.md, section 4).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/bytes.h"

namespace shardfs {

/// Positions and sizes in bytes.
struct Trailer {
  std::uint64_t self = 0;        ///< position of the trailer's own header block
  std::uint64_t end = 0;         ///< position of the first end-of-archive block
  std::uint64_t size = 0;        ///< of the index
  std::uint64_t superblock = 0;  ///< XXH3-64 of the superblock
  std::uint64_t tail = 0;        ///< XXH3-64 of what stands between the trailer and `end`
  std::vector<std::uint64_t> runs;

  /// The VALUE of its record.
  [[nodiscard]] std::string encode() const;
  /// Exactly what encode() makes, its check included; none for anything else.
  [[nodiscard]] static std::optional<Trailer> decode(std::string_view value);
  /// Bytes in the archive, header block and padding included, with `runs` runs.
  [[nodiscard]] static std::uint64_t size_with(std::uint64_t runs);
};

/// What every trailer's record contains.
inline constexpr std::string_view kTrailerMark = "comment=shardfs-trailer ";

}  // namespace shardfs
