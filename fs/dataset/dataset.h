// A data set: an archive of whatever format, opened and ready to be served. No FUSE here.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cache/client/cached_source.h"
#include "fs/archive/archive.h"
#include "fs/archive/open.h"
#include "fs/base/byte_source.h"
#include "fs/base/result.h"
#include "fs/dataset/tier.h"

namespace shardfs {

/// How the user wants an archive cached.
struct CacheSettings {
  std::optional<Tier> tier;                    ///< nothing: choose()
  std::string directory;                       ///< parent of the cache directory; "" for none
  std::uint64_t limit = UINT64_MAX;            ///< bytes
  std::optional<std::uint64_t> limit_percent;  ///< of what is free
  std::optional<std::uint64_t> reserve;        ///< bytes; nothing: kReservePercent of the disk
  std::uint32_t store_rate = 0;                ///< requests a second for single files; 0: no bound
  std::uint32_t store_inflight = 8;            ///< requests at a time
  std::uint32_t store_timeout_ms = 60'000;
  std::string server_command;  ///< see CacheOptions
  bool save_index = false;     ///< of a foreign archive, beside it
  bool hints_follow = false;   ///< see CacheOptions

  /// Of the cache's disk, left to others.
  static constexpr std::uint64_t kReservePercent = 5;
};

/// $SHARDFS_CACHE_DIR, else $SLURM_TMPDIR, else $TMPDIR inside a Slurm job, else "": never a home
/// directory.
[[nodiscard]] std::string default_cache_parent();

/// The composition root: finds out an archive's format by its content and puts the cache in front
/// of the reader that serves it. Immutable once opened; any thread.
class Dataset {
 public:
  /// Opens the archive at `path` to be read in place. Errors as FileSource::open and open_shard;
  /// never partial.
  [[nodiscard]] static Result<std::unique_ptr<Dataset>> open(const std::string& path);

  /// Opens it to be read through the node's cache, as choose() decides. A cache that cannot be had
  /// is no error: the archive is read in place, and tier() says why.
  [[nodiscard]] static Result<std::unique_ptr<Dataset>> open(const std::string& path,
                                                             const CacheSettings& settings,
                                                             const ScanProgress& progress = {});

  /// The same in two steps, of which the first is short: begin() gives one that has no archive()
  /// yet. open_archive() is called once; until it has returned no other member but path(), tier(),
  /// cache(), store() and cancel() may be used. Errors as open().
  [[nodiscard]] static Result<std::unique_ptr<Dataset>> begin(const std::string& path,
                                                              const CacheSettings& settings);
  [[nodiscard]] Result<void> open_archive(const ScanProgress& progress, const PartsShown& parts);

  [[nodiscard]] const Archive& archive() const { return *archive_; }
  [[nodiscard]] const Tree& tree() const { return archive_->tree(); }
  /// Absolute path of the archive, symlinks resolved.
  [[nodiscard]] const std::string& path() const { return path_; }
  /// Whether the archive and all its files, as the page cache will hold both, took no more than
  /// half of the memory that was available at opening: what is read ahead then is still there when
  /// it is wanted.
  [[nodiscard]] bool fits_in_memory() const { return fits_in_memory_; }

  [[nodiscard]] const TierChoice& tier() const { return tier_; }
  /// The cache's client; null where the archive is read in place.
  [[nodiscard]] const CachedSource* cache() const { return cache_.get(); }
  /// A descriptor of one's own of a file that holds the whole archive as it is, with the `flags` of
  /// open(2): the archive, or where it is cached the mirror of it that is complete and verified,
  /// which stays read-only (0400) for as long as it is that. Unsupported: there is none, now; Io as
  /// met. What is read from it is checked by nobody.
  [[nodiscard]] Result<UniqueFd> open_whole(int flags) const;
  /// Corrupt: the archive, read in place, is not what it was when it was opened.
  [[nodiscard]] Result<void> check_unchanged() const;
  /// Makes all reads that wait for shared storage fail, and those to come: for the end of a mount.
  void cancel() const;
  /// Requests of this process to the archive's file so far.
  [[nodiscard]] SourceCounters store() const { return file_->counters(); }

 private:
  Dataset() = default;
  void connect_cache(std::unique_ptr<FileSource>& file, const CacheOptions& options);

  std::string path_;
  CacheSettings settings_;
  bool fits_in_memory_ = false;
  TierChoice tier_;
  const FileSource* file_ = nullptr;  ///< owned by source_
  std::shared_ptr<CachedSource> cache_;
  std::shared_ptr<const ByteSource> source_;  ///< cache_, or what reads the archive in place
  std::unique_ptr<Archive> archive_;
};

}  // namespace shardfs
