// Lists directories through the kernel before anybody asks, as readahead does with data.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <unordered_map>

#include "fs/base/atomic_set.h"
#include "fs/mount/view.h"
#include "fs/tree/tree.h"

namespace shardfs {

/// A program that knows its files' names has the kernel ask for each by LOOKUP, and the pusher can
/// store nothing for files the kernel has not heard of. So once a directory has been asked for
/// some of its names, a thread reads it whole, through the mount: READDIRPLUS answers make the
/// kernel know all its files, some hundred a request.
///
/// The thread holds the directory open while it reads it (two or three microseconds a file), and
/// the mount is in use as long.
class ListAhead {
 public:
  /// `tree` must outlive this object. `directory`: absolute, where `view` is mounted, with the
  /// device number `device` (as device_at gives it). No thread runs before start().
  ListAhead(const Tree& tree, const View& view, std::string directory, std::uint64_t device);
  ~ListAhead();
  ListAhead(const ListAhead&) = delete;
  ListAhead& operator=(const ListAhead&) = delete;

  /// Where no thread can be had, nothing is listed.
  void start();
  /// Waits for the thread's end, which is at most one request away.
  void stop();

  /// The kernel has asked for a name in `directory`. Any thread; never waits.
  void asked(Entry directory);
  /// Somebody lists `directory`. Any thread; never waits.
  void listed(Entry directory) { done_.insert(directory); }

  /// Directories with fewer children are not worth it.
  static constexpr std::uint32_t kFewest = 16;
  /// Listed when one in this many of its names, and no fewer than kFewest / 2, have been asked for:
  /// a listing costs a tenth of the lookups and reads that it saves, so that it pays even if most
  /// files are never read.
  static constexpr std::uint32_t kOneIn = 32;

 private:
  void run(const std::stop_token& stop);
  void list(Entry directory, const std::stop_token& stop) const;

  const Tree& tree_;
  const View view_;
  const std::string mounted_at_;
  const std::uint64_t device_;
  bool started_ = false;  ///< before the first request
  AtomicSet done_;        ///< directories that have been listed, are about to be, or need not be

  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::unordered_map<Entry, std::uint32_t> asked_;  ///< names asked for; guarded by mutex_
  std::deque<Entry> queue_;                         ///< guarded by mutex_
  std::jthread thread_;
};

}  // namespace shardfs
