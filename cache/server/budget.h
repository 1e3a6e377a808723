// How much room the mirrors of one cache directory may take.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>

#include "cache/common/cache_directory.h"
#include "cache/common/protocol.h"

namespace shardfs {

/// One budget a directory: the least that any client asked. The file system is asked before each
/// unit how much is free, because it is not reserved for the cache. The caller's lock guards it.
class Budget {
 public:
  explicit Budget(const CacheDirectory& directory) : directory_(directory) {}

  /// What a client asked, under a number of the caller's; and its end.
  void add_limits(std::uint64_t client, const CacheLimits& limits);
  void remove_limits(std::uint64_t client);
  /// The least of all; the defaults where there is no client.
  [[nodiscard]] const CacheLimits& limits() const { return least_; }

  /// Takes room for `bytes`, if there is. Until landed() the file system does not know of them.
  [[nodiscard]] bool take(std::uint64_t bytes, bool in_memory);
  void landed(std::uint64_t bytes, bool in_memory);
  void give_back(std::uint64_t bytes, bool in_memory);
  /// Bytes on the disk that others were to have free. (A lesser limit of a later client is no
  /// reason to give anything up: what came first is kept.)
  [[nodiscard]] std::uint64_t excess() const;
  /// There is no room, as take() would find.
  void note_excess() { full_ = true; }
  /// Bytes that hot ranges and decoded blocks take.
  void set_block_bytes(std::uint64_t bytes) { blocks_ = bytes; }
  /// What was on the disk before this server.
  void add_found(std::uint64_t bytes) { disk_ += bytes; }

  /// The disk refused a write: it is asked again after kFullPause, and ever later if it goes on so.
  void note_full();
  /// It took one.
  void note_written() { pause_ = kFullPause; }
  /// Whether the last question was answered with no.
  [[nodiscard]] bool is_full() const { return full_; }

  [[nodiscard]] std::uint64_t disk_bytes() const { return disk_; }
  [[nodiscard]] std::uint64_t memory_bytes() const { return memory_; }

  static constexpr std::chrono::seconds kFullPause{1}, kLongestPause{60};

 private:
  void find_least();
  [[nodiscard]] bool has_room(std::uint64_t bytes, bool in_memory) const;

  const CacheDirectory& directory_;
  std::map<std::uint64_t, CacheLimits> asked_;
  CacheLimits least_;
  std::uint64_t disk_ = 0, memory_ = 0, blocks_ = 0;
  std::uint64_t pending_ = 0;  ///< of disk_, what has not landed
  bool full_ = false;
  std::chrono::steady_clock::time_point full_until_{};
  std::chrono::seconds pause_ = kFullPause;
};

}  // namespace shardfs
