// An index as the values of pax global headers: chunks, escaped so that they hold no NUL, in runs
// of headers (FORMAT.md, section 4).
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "fs/base/bytes.h"

namespace shardfs {

inline constexpr std::uint64_t kIndexChunkBytes = 995'680;  ///< of the index, per header
inline constexpr std::uint64_t kHeadersInRow = 28;          ///< libarchive refuses 32
inline constexpr std::uint64_t kEscapeUnit = 254;           ///< bytes that share one key

/// Bytes that `plain` bytes take when escaped.
[[nodiscard]] constexpr std::uint64_t escaped_size(std::uint64_t plain) {
  return plain + (plain + kEscapeUnit - 1) / kEscapeUnit;
}

/// Writes escaped_size(plain.size()) bytes, none of them NUL, to `to`.
void escape(ByteSpan plain, std::byte* to);

/// Undoes escape() into `to`. REQUIRES: escaped.size() == escaped_size(to.size()). Takes any
/// bytes: damage is noticed by the checksum of what comes out.
void unescape(ByteSpan escaped, std::span<std::byte> to);

/// The global header that holds one chunk of an index.
[[nodiscard]] Bytes encode_index_header(ByteSpan chunk);

/// Where the chunks of an index stand in the archive. Positions and sizes in bytes.
class IndexRuns {
 public:
  struct Range {
    std::uint64_t position = 0;
    std::uint64_t size = 0;
  };

  /// `starts`: position of the first header of each run. REQUIRES: count_for(index_size) of them.
  IndexRuns(std::uint64_t index_size, std::vector<std::uint64_t> starts)
      : index_size_(index_size), starts_(std::move(starts)) {}

  /// Runs that an index takes; the trailer is one more header in the last one.
  [[nodiscard]] static std::uint64_t count_for(std::uint64_t index_size) {
    return (chunks_for(index_size) + 1 + kHeadersInRow - 1) / kHeadersInRow;
  }
  /// Bytes in the archive of the header of a chunk of `chunk` bytes.
  [[nodiscard]] static std::uint64_t header_size(std::uint64_t chunk);
  /// Bytes of run `r`'s index headers (the trailer not counted).
  [[nodiscard]] static std::uint64_t run_size(std::uint64_t index_size, std::uint64_t r);

  [[nodiscard]] std::uint64_t index_size() const { return index_size_; }
  [[nodiscard]] const std::vector<std::uint64_t>& starts() const { return starts_; }
  [[nodiscard]] std::uint64_t chunks() const { return chunks_for(index_size_); }
  [[nodiscard]] std::uint64_t chunk_size(std::uint64_t chunk) const;
  /// Header block, record and padding of a chunk.
  [[nodiscard]] Range header(std::uint64_t chunk) const;
  /// The escaped bytes of a chunk.
  [[nodiscard]] Range value(std::uint64_t chunk) const;
  /// All index headers of run `r`.
  [[nodiscard]] Range run(std::uint64_t r) const { return {starts_[r], run_size(index_size_, r)}; }

 private:
  static std::uint64_t chunks_for(std::uint64_t index_size) {
    return (index_size + kIndexChunkBytes - 1) / kIndexChunkBytes;
  }

  std::uint64_t index_size_;
  std::vector<std::uint64_t> starts_;
};

}  // namespace shardfs
