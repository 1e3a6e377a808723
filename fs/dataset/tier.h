// Where the bytes of an archive are kept on the node: a decision from facts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cache/common/cache_directory.h"
#include "cache/common/protocol.h"
#include "fs/base/result.h"

namespace shardfs {

/// What a decision is made from. Bytes.
struct CacheFacts {
  std::uint64_t archive_bytes = 0;
  FileSystem archive_on;     ///< where the archive lies
  bool same_device = false;  ///< the cache directory would lie on the very same file system
  /// The cache directory's file system; nothing where there is no usable directory, then
  /// `why_no_disk`.
  std::optional<FileSystem> disk;
  std::string why_no_disk;
  std::uint64_t cache_limit = UINT64_MAX;  ///< --cache-size
  std::uint64_t reserve = 0;               ///< left to others on the disk
  std::uint64_t memory = 0;                ///< available to this job
  std::optional<Tier> asked;               ///< --tier; nothing: auto
};

/// What was decided, and why, in words for people.
struct TierChoice {
  Tier tier = Tier::None;
  std::string reason;
  std::uint64_t disk_bytes = 0;    ///< that mirrors may take on the disk
  std::uint64_t memory_bytes = 0;  ///< that they may take in memory
};

/// A pure function. A tier that was asked for is given wherever it can be at all; where it cannot,
/// the archive is read in place and the reason says so.
[[nodiscard]] TierChoice choose(const CacheFacts& facts);

/// Of the available memory, the part that a mirror in it may take: as much again goes to the page
/// cache once its files are read, and the other half is for the programs that use the data.
inline constexpr std::uint64_t kMemoryShare = 4;

/// The largest archive that goes into memory unasked. Sites advise to unpack up to about so much
/// there.
inline constexpr std::uint64_t kMostInMemory = std::uint64_t{10} << 30;

/// The least room on a disk that is worth a cache, unless it holds the whole archive.
inline constexpr std::uint64_t kLeastPartial = 64 << 20;

}  // namespace shardfs
