// The index of an archive as bytes: superblock, section table, sections (FORMAT.md, section 3).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/bytes.h"
#include "fs/base/page_buffer.h"
#include "fs/base/result.h"

namespace shardfs {

/// What an index begins with.
inline constexpr std::string_view kPlainIndexMagic = "SHARDFS\n";

enum class Container : std::uint32_t { Tar = 1, TarZst = 2, Foreign = 3 };

/// Section types; the numbers are part of the format.
enum class Section : std::uint32_t {
  Directories = 1,
  NameBlocks = 2,
  Names = 3,
  Extensions = 4,
  Attributes = 5,
  EntryAttributes = 6,
  Sizes = 7,
  MtimeSeconds = 8,
  MtimeNanoseconds = 9,
  Targets = 10,
  Positions = 11,
  LinkOffsets = 12,
  Links = 13,
  LinkCounts = 14,
  XattrEntries = 15,
  XattrOffsets = 16,
  Xattrs = 17,
  HoleEntries = 18,
  Holes = 19,
  Moved = 20,
  FrameOffsets = 21,
  FramePositions = 22,
  PieceBases = 23,
  Dropped = 24,
  Checksums = 25,
  // Of foreign archives only.
  BlockSizes = 26,
  BlockGaps = 27,
  BlockCoders = 28,
  Coders = 29,
  BlockStarts = 30,
  Windows = 31,
  ForeignFacts = 32,
  PieceSums = 33,
};
inline constexpr std::uint32_t kSections = 34;  ///< One more than the largest section type.

/// Entries are numbered in 32 bits, the last two of which mean none.
inline constexpr std::uint64_t kMaxEntries = 0xfffffffe;
/// Bytes of a file: what fits into an off_t.
inline constexpr std::uint64_t kMaxFile = std::numeric_limits<std::int64_t>::max();

/// Corrupt: "index: WHAT".
[[nodiscard]] std::unexpected<Error> damaged_index(std::string_view what);

/// Where a section lies in the index, and its XXH3-64.
struct SectionPlace {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  std::uint64_t checksum = 0;
};

/// The decoded superblock. Field meanings as in FORMAT.md 3.1; sizes in bytes.
struct Superblock {
  Container container = Container::Tar;
  std::uint64_t index_size = 0;
  std::uint64_t entries = 0;
  std::uint64_t directories = 0;
  std::uint64_t files = 0;
  std::uint64_t file_bytes = 0;
  std::uint64_t archive_size = 0;
  std::uint64_t index_position = 0;
  std::uint64_t tar_size = 0;
  std::uint64_t header_digest = 0;
  std::array<SectionPlace, kSections> sections;  ///< By type; absent ones are all zero.
  std::array<std::byte, 16> identity{};          ///< XXH3-128 of the superblock's bytes.

  /// Smallest superblock there is; reading this much tells `encoded_size`.
  static constexpr std::size_t kMinSize = 128;

  /// The superblock's size in bytes, from the first 16 bytes of an index. Corrupt if the magic or
  /// the size is wrong, Unsupported for another version.
  [[nodiscard]] static Result<std::size_t> encoded_size(ByteSpan first_bytes);

  /// Decodes and checks a superblock of exactly encoded_size() bytes: its checksum, reserved
  /// fields, features, and that sections lie in order inside the index. Errors carry no file name.
  [[nodiscard]] static Result<Superblock> decode(ByteSpan bytes);

  [[nodiscard]] const SectionPlace& place(Section s) const {
    return sections[static_cast<std::uint32_t>(s)];
  }
  /// Leading bytes of the index that Index::decode needs: all up to CHECKSUMS.
  [[nodiscard]] std::uint64_t tree_size() const;
  /// `identity` as 32 lower-case hex digits.
  [[nodiscard]] std::string id() const;
};

/// The sections of one index, loaded and checked. Everything but CHECKSUMS is there from the start;
/// those come through `load_checksums` when first wanted. Immutable, hence thread-safe.
struct Index {
  Superblock superblock;
  PageBuffer bytes;  ///< The index from its first byte up to CHECKSUMS (or its end).

  /// The bytes of a section other than CHECKSUMS; empty if absent.
  [[nodiscard]] ByteSpan section(Section s) const;

  /// Takes the leading bytes of an index (at least up to CHECKSUMS), decodes the superblock and
  /// verifies each section's checksum (in two threads where the index is large).
  [[nodiscard]] static Result<Index> decode(PageBuffer bytes);
  /// The same with a copy.
  [[nodiscard]] static Result<Index> decode(ByteSpan bytes);
};

/// Assembles superblock and sections into one run of bytes. `sections` in ascending order of type.
/// The fields index_size, sections and identity of `superblock` are computed here and set in it.
[[nodiscard]] Bytes encode_index(Superblock& superblock,
                                 const std::vector<std::pair<Section, Bytes>>& sections);

/// index_size that encode_index will give for sections of these lengths.
[[nodiscard]] std::uint64_t index_size_for(const std::vector<std::uint64_t>& section_lengths);

}  // namespace shardfs
