#include "fs/archive/shard/index_runs.h"

#include <algorithm>
#include <bitset>
#include <string>

#include "fs/archive/shard/ustar.h"

namespace shardfs {

namespace {

constexpr std::uint64_t kCommentBytes = 9;  ///< " comment="

std::uint64_t decimals(std::uint64_t n) { return std::to_string(n).size(); }

std::uint64_t size_of_chunk(std::uint64_t index_size, std::uint64_t chunk) {
  return std::min(kIndexChunkBytes, index_size - chunk * kIndexChunkBytes);
}

/// The least non-zero byte value that does not occur in at most 254 bytes.
std::byte free_value(ByteSpan bytes) {
  std::bitset<256> used;
  for (const std::byte b : bytes) used.set(std::to_integer<std::size_t>(b));
  std::size_t value = 1;
  while (used.test(value)) ++value;
  return std::byte(value);
}

}  // namespace

void escape(ByteSpan plain, std::byte* to) {
  while (!plain.empty()) {
    const ByteSpan unit = plain.first(std::min<std::size_t>(plain.size(), kEscapeUnit));
    const std::byte key = free_value(unit);
    *to++ = key;
    for (const std::byte b : unit) *to++ = b ^ key;
    plain = plain.subspan(unit.size());
  }
}

void unescape(ByteSpan escaped, std::span<std::byte> to) {
  const std::byte* from = escaped.data();
  std::byte* out = to.data();
  for (std::size_t left = to.size(); left > 0;) {
    const std::size_t unit = std::min<std::size_t>(left, kEscapeUnit);
    const std::byte key = *from++;
    for (std::size_t i = 0; i < unit; ++i) out[i] = from[i] ^ key;
    from += unit;
    out += unit;
    left -= unit;
  }
}

Bytes encode_index_header(ByteSpan chunk) {
  Bytes value(escaped_size(chunk.size()));
  escape(chunk, value.data());
  return encode_global_header(as_text(value));
}

std::uint64_t IndexRuns::header_size(std::uint64_t chunk) {
  return kTarBlock + round_up(comment_record_size(escaped_size(chunk)), kTarBlock);
}

std::uint64_t IndexRuns::run_size(std::uint64_t index_size, std::uint64_t r) {
  const std::uint64_t first = std::min(r * kHeadersInRow, chunks_for(index_size));
  const std::uint64_t last = std::min(first + kHeadersInRow, chunks_for(index_size));
  if (first == last) return 0;
  return (last - first - 1) * header_size(kIndexChunkBytes) +
         header_size(size_of_chunk(index_size, last - 1));
}

std::uint64_t IndexRuns::chunk_size(std::uint64_t chunk) const {
  return size_of_chunk(index_size_, chunk);
}

IndexRuns::Range IndexRuns::header(std::uint64_t chunk) const {
  const std::uint64_t start = starts_[chunk / kHeadersInRow];
  return {start + chunk % kHeadersInRow * header_size(kIndexChunkBytes),
          header_size(chunk_size(chunk))};
}

IndexRuns::Range IndexRuns::value(std::uint64_t chunk) const {
  const std::uint64_t size = escaped_size(chunk_size(chunk));
  const std::uint64_t before = kTarBlock + decimals(comment_record_size(size)) + kCommentBytes;
  return {header(chunk).position + before, size};
}

}  // namespace shardfs
