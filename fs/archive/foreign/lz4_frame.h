// The header of an lz4 frame, as far as it matters here ("LZ4 Frame Format Description" 1.6.2).
#pragma once

#include <cstdint>

namespace shardfs {

inline constexpr std::uint32_t kLz4Magic = 0x184d2204u;

/// Bits of the flags, the byte behind the magic.
namespace lz4_flag {
inline constexpr unsigned kDictionary = 0x01, kContentSize = 0x08, kBlockChecksums = 0x10,
                          kIndependent = 0x20, kVersion = 0x40;
}  // namespace lz4_flag

/// What all blocks of a frame have in common.
struct Lz4BlockKind {
  unsigned largest = 0;    ///< number of the largest size: bits 4 to 6 of the byte behind the flags
  bool checksums = false;  ///< each has one of 4 bytes behind it

  /// As Codec::Lz4Blocks has it.
  [[nodiscard]] std::uint8_t parameter() const {
    return static_cast<std::uint8_t>(largest | (checksums ? kChecksums : 0));
  }
  [[nodiscard]] static Lz4BlockKind of(unsigned parameter) {
    return {parameter & ~kChecksums, (parameter & kChecksums) != 0};
  }
  [[nodiscard]] bool is_known() const { return largest >= 4 && largest <= 7; }

  static constexpr unsigned kChecksums = 8;
};

}  // namespace shardfs
