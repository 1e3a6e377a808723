// The archive on shared storage, as a cache server reads it: every request counted, failures tried
// again for a while.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>

#include "cache/common/archive_id.h"
#include "fs/base/result.h"
#include "fs/base/unique_fd.h"

namespace shardfs {

/// Of one archive, since it was opened by the server.
struct StoreCounters {
  std::atomic<std::uint64_t> requests{0}, bytes{0};
  std::atomic<std::uint64_t> small_requests{0};  ///< for less than a unit
  std::atomic<std::uint64_t> retries{0}, errors{0};
  std::atomic<std::uint64_t> stall_ms{0};  ///< spent in requests beyond the first kStall of each
};

/// Any thread. Whole units are read past the page cache where the file system can: their bytes are
/// kept in the mirror, and in the page cache would take as much memory again, and the server twice
/// the time (200 MB: 0.2 s of a processor, against 0.4).
class StoreFile {
 public:
  StoreFile(UniqueFd fd, std::string path, const ArchiveFacts& facts)
      : fd_(std::move(fd)), path_(std::move(path)), facts_(facts) {}

  /// Fills `out` from `offset`. EIO and its like are tried again, ever more slowly, until `timeout`
  /// has passed or `stop` is set. Io otherwise; Corrupt where the archive is cut or has been
  /// changed in place since it was opened: then nothing of `out` may be used.
  [[nodiscard]] Result<void> read(std::uint64_t offset, std::span<std::byte> out,
                                  std::chrono::milliseconds timeout, const std::atomic<bool>& stop);

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] const ArchiveFacts& facts() const { return facts_; }
  [[nodiscard]] StoreCounters& counters() { return counters_; }

  static constexpr std::chrono::milliseconds kStall{1000};

 private:
  [[nodiscard]] Result<void> read_once(std::uint64_t offset, std::span<std::byte> out);
  [[nodiscard]] ssize_t read_some(std::uint64_t offset, std::span<std::byte> out);
  [[nodiscard]] bool open_direct();
  [[nodiscard]] bool may_read_direct(std::uint64_t offset, std::span<const std::byte> out);
  [[nodiscard]] Result<void> check_unchanged();

  UniqueFd fd_;
  std::once_flag direct_opened_;  ///< by the first who reads a unit: it may take a store its time
  UniqueFd direct_;
  std::atomic<bool> no_direct_{false};
  const std::string path_;
  const ArchiveFacts facts_;
  StoreCounters counters_;
  std::atomic<bool> changed_{false};
};

}  // namespace shardfs
