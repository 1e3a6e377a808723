// Where the data of a 7z archive's members lie.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "fs/archive/foreign/codec.h"
#include "fs/base/byte_source.h"
#include "fs/base/result.h"

namespace shardfs {

/// One or more members' data, one behind the other, compressed in one go.
struct SevenZipBlock {
  Coder coder;
  std::uint64_t offset = 0, packed = 0;  ///< in the file, bytes
  std::uint64_t decoded = 0;             ///< bytes
  std::uint32_t crc = 0;                 ///< CRC-32 of what it decodes to
  bool is_shared = false;                ///< by several members
};

struct SevenZipPlace {
  std::uint32_t block = 0;   ///< number in SevenZipPlaces::blocks
  std::uint64_t offset = 0;  ///< in what the block decodes to, bytes
  std::uint64_t size = 0;    ///< bytes
};

struct SevenZipPlaces {
  std::vector<SevenZipBlock> blocks;
  /// By member, in the archive's order; size 0: it has no data.
  std::vector<SevenZipPlace> members;
};

/// Reads the header, in two or three requests. Nothing where members cannot be read by their
/// places, but only by libarchive, one after the other: the archive is damaged, a method is another
/// than LZMA, LZMA2 or none, several members share more than kMaxWhole bytes (a "solid" archive), a
/// checksum is missing. Io: as the source.
[[nodiscard]] Result<std::optional<SevenZipPlaces>> find_sevenzip_places(const ByteSource& source);

}  // namespace shardfs
