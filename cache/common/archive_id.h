// Which archive cached bytes belong to.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "fs/base/result.h"

namespace shardfs {

/// What tells one state of an archive from all others on a node: a digest of size, inode number,
/// mtime and ctime. No byte of the archive is read for it, so that its index too can come through
/// the cache; and a reader checks every byte against the archive's own checksums, whatever this
/// says.
struct ArchiveId {
  std::array<std::byte, 16> bytes{};

  friend bool operator==(const ArchiveId&, const ArchiveId&) = default;
  friend auto operator<=>(const ArchiveId&, const ArchiveId&) = default;

  /// 32 hex digits.
  [[nodiscard]] std::string hex() const;
};

/// One state of an open archive.
struct ArchiveFacts {
  ArchiveId id;
  std::uint64_t size = 0;     ///< bytes
  std::int64_t mtime_ns = 0;  ///< since 1970

  /// Whether the file behind it is still what it was, as far as its attributes tell. Not ctime: a
  /// new link or mode changes no byte.
  [[nodiscard]] bool same_content(const ArchiveFacts& other) const {
    return size == other.size && mtime_ns == other.mtime_ns;
  }
};

/// By fstat(2). Invalid: not a regular file; Unsupported: larger than 64 TiB. `name` is for the
/// message.
[[nodiscard]] Result<ArchiveFacts> archive_facts(int fd, const std::string& name);

}  // namespace shardfs
