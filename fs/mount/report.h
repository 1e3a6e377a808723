// What a mount tells of itself, as JSON in extended attributes that are never listed.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "fs/base/result.h"
#include "fs/dataset/dataset.h"
#include "fs/mount/served.h"

namespace shardfs {

inline constexpr const char* kStatsXattr = "user.shardfs.stats";      ///< on the root
inline constexpr const char* kInfoXattr = "user.shardfs.info";        ///< on the root
inline constexpr const char* kExtentsXattr = "user.shardfs.extents";  ///< on regular files

/// Facts about an archive: format, container, access, checksum, counts and sizes, one object.
[[nodiscard]] std::string archive_info_json(const Dataset& dataset);

/// archive_info_json and where it is mounted: directory, subdir, gpu, pid of the daemon, job
/// (Slurm's, or "").
[[nodiscard]] std::string mount_info_json(const Served& served);

/// Figures of the mount so far. Asks the cache server, where there is one, and may wait for it.
[[nodiscard]] std::string stats_json(const Served& served);

/// The same for people, in a few lines, from stats_json()'s text: what was read, what it cost the
/// shared storage, and what could be done better.
[[nodiscard]] std::vector<std::string> closing_report(const std::string& stats);

[[nodiscard]] DaemonFigures daemon_figures(const Served& served);
[[nodiscard]] double seconds_since(std::chrono::steady_clock::time_point start);

/// Where the bytes of the regular file `inode` lie in the archive at `path`: [{file, offset,
/// length, encoding}], in order. With an encoding other than "stored", also skip and decoded (see
/// Extent).
[[nodiscard]] Result<std::string> extents_json(const std::string& path, const Archive& archive,
                                               Entry inode);

}  // namespace shardfs
