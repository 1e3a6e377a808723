// The header of a 7z archive, as far as it tells where data lie: names, times and modes are read by
// libarchive. Internal to fs/archive/sevenzip. The format: 7zFormat.txt of the LZMA SDK.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "fs/base/bytes.h"

namespace shardfs {

/// Bytes of the file in front of what is packed; they say where the header is.
inline constexpr std::uint64_t kSevenZipStart = 32;

/// What was compressed in one go: by one method, from one range of the file.
struct SevenZipFolder {
  std::uint64_t method = 0;              ///< its bytes as a number, the first one highest
  Bytes properties;                      ///< as the method has them
  std::uint64_t offset = 0, packed = 0;  ///< in the file, bytes
  std::uint64_t decoded = 0;             ///< bytes
  std::uint64_t streams = 1;             ///< members that have data there, one behind the other
  std::optional<std::uint32_t> crc;      ///< CRC-32 of all of it
};

/// The data of one member.
struct SevenZipStream {
  std::uint64_t size = 0;  ///< bytes
  std::optional<std::uint32_t> crc;
};

struct SevenZipStreams {
  std::vector<SevenZipFolder> folders;
  std::vector<SevenZipStream> streams;  ///< folder by folder
};

struct SevenZipHeader {
  SevenZipStreams data;
  std::vector<bool> has_data;  ///< by member: the next one of `data.streams` is its own
};

struct SevenZipParsed {
  bool is_packed = false;  ///< the header is in the only folder of `header.data`
  SevenZipHeader header;
};
/// What a header says. Nothing where it is damaged, or says what is of no use here: a folder of
/// several methods, or in several parts. `end`: of the file, bytes.
[[nodiscard]] std::optional<SevenZipParsed> parse_sevenzip_header(ByteSpan bytes,
                                                                  std::uint64_t end);

}  // namespace shardfs
