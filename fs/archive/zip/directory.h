// The central directory of a zip archive: its members as it tells of them. Internal to
// fs/archive/zip.
#pragma once

#include <cstdint>
#include <deque>
#include <memory_resource>
#include <string_view>

#include "fs/archive/zip/end_record.h"
#include "fs/base/byte_source.h"
#include "fs/base/result.h"
#include "fs/tree/tree.h"

namespace shardfs {

/// A member. Offsets are those in the file, with what stands in front of the archive; bytes.
struct ZipMember {
  /// As Member::path, but there may be ".." in it, and what no name can hold.
  std::string_view path;
  std::uint64_t header = 0;  ///< offset of the local header, in front of the directory
  std::uint64_t packed = 0;  ///< size of the data as they are there, as claimed
  std::uint64_t size = 0;    ///< size of the data, as claimed
  Time mtime;
  std::uint32_t mode = 0;  ///< with type bits
  std::uint32_t uid = 0, gid = 0;
  std::uint16_t method = 0;
  std::uint16_t name_size = 0;  ///< of the name as it stands in the archive

  // What place_zip_members() finds out.
  std::uint64_t room = 0;  ///< from the local header up to the next one or the directory
  std::uint64_t data = 0;  ///< offset of its data; 0 where that is not known
  std::string_view link;   ///< text of a symlink

  [[nodiscard]] bool is_regular() const;
  [[nodiscard]] bool is_symlink() const;
};

/// About 120 bytes a member and its name.
struct ZipDirectory {
  std::pmr::monotonic_buffer_resource texts;  ///< what the views in `members` show
  std::deque<ZipMember> members;              ///< in the directory's order

  /// A copy of `text` that lives as long as this object.
  std::string_view keep(std::string_view text);
};

/// Numbers of the methods, as in zip's own specification, that can be undone here.
namespace zip_method {
inline constexpr std::uint16_t kStored = 0, kDeflate = 8, kBzip2 = 12, kLzma = 14, kZstd = 93,
                               kXz = 95;
}

/// Reads the directory that stands at `place`, some MiB at a time. Corrupt: damaged or cut short.
/// Unsupported: a member that is encrypted, or packed in a way that cannot be undone here.
[[nodiscard]] Result<void> read_zip_directory(const ByteSource& source, const DirectoryPlace& place,
                                              ZipDirectory& directory);

}  // namespace shardfs
