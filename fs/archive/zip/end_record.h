// The end of a zip archive, which says where its central directory lies. Internal to
// fs/archive/zip.
#pragma once

#include <cstdint>

#include "fs/base/byte_source.h"
#include "fs/base/result.h"

namespace shardfs {

/// Where the central directory lies in the file, bytes.
struct DirectoryPlace {
  std::uint64_t begin = 0, end = 0;
  std::uint64_t shift = 0;    ///< to be added to the archive's offsets: something stands before it
  std::uint64_t members = 0;  ///< as the end claims
  bool zip64 = false;         ///< otherwise `members` is modulo 65,536
};

/// Looks for the end in the last 64 KiB and a bit, in one read, and asks for 60 bytes more in front
/// of them where the directory is not there. What begin, end and shift say is possible:
/// shift <= begin <= end <= the file's size. Unsupported: no zip, or one volume of several.
/// Corrupt: cut short or damaged.
[[nodiscard]] Result<DirectoryPlace> find_zip_directory(const ByteSource& source);

}  // namespace shardfs
