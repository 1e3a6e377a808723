// Opens an archive of whatever format, which its content tells.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fs/archive/archive.h"
#include "fs/base/byte_source.h"
#include "fs/base/result.h"
#include "fs/tree/tree.h"

namespace shardfs {

/// Told of a scan how many bytes of the archive are done with, and how many it has; by any thread.
using ScanProgress = std::function<void(std::uint64_t done, std::uint64_t size)>;

/// Files of an archive's index.
struct IndexFiles {
  std::vector<std::string> read;  ///< that may hold it, in this order
  std::vector<std::string> save;  ///< to keep it in once the archive has been scanned
};

/// Shows an archive while it is being scanned. What is called, is so by the thread that scans, and
/// takes a tenth of its time at most.
struct PartsShown {
  std::function<bool()> wanted = {};  ///< whether somebody waits for more than was shown
  /// Takes an archive of what has been found so far. A file of it whose data have not passed yet
  /// may give any error.
  std::function<void(std::shared_ptr<const Archive>)> show = {};
  /// Whether nobody wants the archive any more: the scan ends as Interrupted. By any thread.
  std::function<bool()> stopped = {};
  /// Set once anything has been shown; a second attempt to open the archive goes on with it.
  std::shared_ptr<std::atomic<bool>> any_shown = std::make_shared<std::atomic<bool>>(false);
};

/// What a foreign archive is opened with.
struct ForeignOptions {
  Time mtime;                                    ///< of the archive, as fstat(2) tells
  std::function<IndexFiles()> index_files = {};  ///< asked for once the archive is found foreign
  std::uint64_t cache_bytes = 64 << 20;          ///< of decoded blocks that are kept
  ScanProgress progress = {};
  PartsShown parts = {};
};

/// A shard by its own index (open_shard); anything else by an index that is kept in a file and
/// belongs to the archive's present state, or else it is scanned. Unsupported: no format that is
/// known here, or one of its methods is not. Corrupt: damaged or cut short. What a user should be
/// told once of an archive that opens is in Archive::notes(); an index that cannot be used or saved
/// is no more than that. It has numbers() if a part of it was shown. Of several on a node that open
/// an archive at the same time, one scans it.
[[nodiscard]] Result<std::unique_ptr<Archive>> open_archive(
    std::shared_ptr<const ByteSource> source, const ForeignOptions& options = {});

/// Scans the archive, as one of another format even if it is a shard, and writes its index to
/// `path`.
[[nodiscard]] Result<void> make_index(const ByteSource& source, const Time& mtime,
                                      const std::string& path, const ScanProgress& progress);

}  // namespace shardfs
