// A column of unsigned numbers in bit-packed groups of 64 (FORMAT.md 3.2).
#pragma once

#include <cstdint>
#include <span>

#include "fs/base/bytes.h"
#include "fs/base/result.h"

namespace shardfs {

/// A view over an encoded column; the bytes must outlive it. Reading is O(1) and cannot leave them.
class PackedColumn {
 public:
  static constexpr std::size_t kGroup = 64;

  PackedColumn() = default;

  /// Checks the header and every group header (not every value): count, order, no gaps, room.
  [[nodiscard]] static Result<PackedColumn> open(ByteSpan bytes, std::uint64_t expected_count);

  [[nodiscard]] std::uint64_t size() const { return count_; }
  /// REQUIRES: i < size().
  [[nodiscard]] std::uint64_t operator[](std::uint64_t i) const;
  /// As operator[], for values stored plus 2^63.
  [[nodiscard]] std::int64_t signed_at(std::uint64_t i) const {
    return static_cast<std::int64_t>((*this)[i] ^ kSignBit);
  }

  [[nodiscard]] static Bytes encode(std::span<const std::uint64_t> values);
  static constexpr std::uint64_t kSignBit = std::uint64_t{1} << 63;

 private:
  const std::byte* groups_ = nullptr;
  const std::byte* bits_ = nullptr;
  std::uint64_t count_ = 0;
};

}  // namespace shardfs
