// How the bytes of other formats' blocks are compressed, and how that is undone.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "fs/base/bytes.h"
#include "fs/base/result.h"

namespace shardfs {

/// The numbers are part of the index's format (FORMAT.md, section 6).
enum class Codec : std::uint8_t {
  Stored = 0,   ///< as they are
  Zero = 1,     ///< nowhere: all of them zero
  Slice = 2,    ///< bytes of the logical stream itself, from position `offset` on
  Deflate = 3,  ///< RFC 1951; with a BlockStart it begins inside a stream, and may end there too
  Zlib = 4,     ///< RFC 1950
  Gzip = 5,     ///< RFC 1952: one or more whole members
  Zstd = 6,     ///< one or more whole frames, skippable ones too
  Xz = 7,       ///< one block of an .xz stream, its header and checksum too; parameter: check type
  Bzip2 = 8,    ///< one block, from its magic on; offset and size count bits
  Lz4 = 9,      ///< one or more whole frames
  Zip = 10,     ///< a zip member, from its local header on
  Squashfs = 11,  ///< one block of a squashfs image; parameter: its compressor's number
  Member = 12,    ///< a member that libarchive reads; offset: its number
  Lzma = 13,      ///< LZMA without header or end; parameter: lc + 9 × (lp + 5 × pb)
  Lzma2 = 14,     ///< LZMA2 without header
  /// Blocks of an lz4 frame that do not refer to each other, and the frame's end perhaps;
  /// parameter: the number of the frame's largest block size, + 8 if blocks have checksums.
  Lz4Blocks = 15,
};

/// A way of compressing, as it is written down once for all the blocks that it made.
struct Coder {
  Codec codec = Codec::Stored;
  std::uint8_t parameter = 0;  ///< as the codec says
  friend bool operator==(const Coder&, const Coder&) = default;
};

/// What a decoder needs that begins inside a stream.
struct BlockStart {
  /// Of the first byte, that belong to what is before: 0 to 7, the low ones for Deflate, the high
  /// ones for Bzip2.
  unsigned bits = 0;
  Bytes window;  ///< Deflate: the up to 32 KiB decoded before it
  /// Of what the block decodes to, as the method has none there: XXH3-64; of Lzma and Lzma2 its
  /// CRC-32, and kIsCrc. 0: not known. Decoders do not look at it.
  std::uint64_t checksum = 0;
  static constexpr std::uint64_t kIsCrc = std::uint64_t{1} << 32;
};

/// Largest window of a decoder that works in parts, 2^n bytes: what `zstd -d` takes unasked, and
/// twice that of `xz -9`.
inline constexpr unsigned kWindowLog = 27;

/// Decodes one block, in steps. One thread at a time.
class Decoder {
 public:
  enum class Progress : std::uint8_t {
    More,  ///< more input or more room is wanted
    Done   ///< the block ends here; what is left of the input is not its
  };

  virtual ~Decoder() = default;

  /// Takes bytes off the front of `in` and fills the front of `out`; both are moved on. An empty
  /// `in` says that no more input comes. Not called again after Done. Corrupt, without a file's
  /// name: not what its method writes, a checksum of its own does not hold, or cut short.
  /// Unsupported: it wants more memory than a decoder may take, or is encrypted. Io: no memory.
  [[nodiscard]] virtual Result<Progress> step(ByteSpan& in, std::span<std::byte>& out) = 0;
};

/// Of Stored, Zero, Slice and Member there is none: Invalid. `start` is null but where a Deflate
/// block begins inside a stream or a Bzip2 block inside a byte; it is not kept. Unsupported: a
/// codec or parameter that this build does not know.
[[nodiscard]] Result<std::unique_ptr<Decoder>> make_decoder(const Coder& coder,
                                                            const BlockStart* start = nullptr);

/// Decodes a block that is there whole, as far as `out` goes; returns the bytes that came, fewer
/// only if it ends before. Errors as Decoder::step. A Zip member has no end of its own with some
/// methods: `out` is what it decodes to, and its CRC-32 is checked. Any thread.
[[nodiscard]] Result<std::size_t> decode_block(const Coder& coder, ByteSpan packed,
                                               std::span<std::byte> out,
                                               const BlockStart* start = nullptr);

}  // namespace shardfs
