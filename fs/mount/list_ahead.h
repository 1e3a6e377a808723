// Decides which listings tell attributes too, and lists directories so before anybody asks.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <unordered_map>

#include "fs/base/atomic_set.h"
#include "fs/mount/view.h"
#include "fs/tree/tree.h"

struct fuse_session;

namespace shardfs {

/// A READDIRPLUS answer can make the kernel know all files it names, some hundred a request. That
/// costs the kernel an inode and some microseconds a file, in vain where only the names are wanted;
/// but a program that goes on to stat or read them has it ask for each by LOOKUP otherwise, which
/// costs far more, and the pusher can store nothing for files that the kernel does not know. So a
/// listing gives names alone at first; and once a directory has been asked for some of its names,
/// its listings tell all, and a thread reads it whole, through the mount. As long as that happens
/// to directories, those listed next tell all at once.
///
/// The thread holds the directory open while it reads it (two or three microseconds a file), and
/// the mount is in use as long. It has no descriptor of the mount's device, so that it cannot keep
/// a process from ending that is killed: what waits for answers then waits until all of them are
/// closed, and cannot be killed itself.
class ListAhead {
 public:
  /// `tree` must outlive this object. `directory`: absolute, where `view` is mounted, with the
  /// device number `device` (as device_at gives it). No thread runs before start(), and while none
  /// does all listings tell all.
  ListAhead(fuse_session* session, const Tree& tree, const View& view, std::string directory,
            std::uint64_t device);
  ~ListAhead();
  ListAhead(const ListAhead&) = delete;
  ListAhead& operator=(const ListAhead&) = delete;

  /// Before the first request. Where no thread can be had, nothing is listed ahead.
  void start();
  /// Waits for the threads' end, which is at most one request away.
  void stop();

  /// The kernel has asked for a name in `directory`. Any thread; never waits.
  void asked(Entry directory);
  /// Somebody lists `directory` from `offset` on: whether the answer is to tell attributes. Any
  /// thread; never waits.
  [[nodiscard]] bool tells_all(Entry directory, std::uint64_t offset);

  /// Directories with fewer children are not worth it: they tell all at once.
  static constexpr std::uint32_t kFewest = 16;
  /// Listed when one in this many of its names, and no fewer than kFewest / 2, have been asked for:
  /// a listing costs a tenth of the lookups and reads that it saves, so that it pays even if most
  /// files are never read.
  static constexpr std::uint32_t kOneIn = 32;
  /// The same, and no fewer than two, where somebody has had the names: who then asks for two of
  /// them mostly goes on to ask for all.
  static constexpr std::uint32_t kOneInListed = 1024;
  /// Of directories that tell all at once, one in so many gives names alone, to see what follows.
  static constexpr std::uint32_t kTryEvery = 16;

 private:
  void read_ahead(const std::stop_token& stop);
  void drop(const std::stop_token& stop);
  /// Has the kernel drop what it keeps of the listing.
  void have_dropped(Entry directory, const std::stop_token& stop);
  void list(Entry directory, const std::stop_token& stop);
  static void read_whole(int directory, const std::stop_token& stop);
  [[nodiscard]] bool expects_more();
  [[nodiscard]] std::uint32_t enough(Entry directory, std::uint32_t children) const;

  fuse_session* session_;
  const Tree& tree_;
  const View view_;
  const std::string mounted_at_;
  const std::uint64_t device_;
  bool started_ = false;  ///< before the first request
  AtomicSet names_;       ///< directories whose names alone somebody has been given
  AtomicSet done_;        ///< directories that have been listed, are about to be, or need not be

  static constexpr std::uint64_t kNone = UINT64_MAX;
  std::atomic<std::uint64_t> last_names_{kNone};  ///< the last directory that gave names alone
  std::atomic<std::uint32_t> told_at_once_{0};
  std::atomic<std::uint64_t> listing_{kNone};  ///< the directory that the thread lists
  std::atomic<bool> told_all_{false};  ///< of it, from the beginning, since the thread began

  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::unordered_map<Entry, std::uint32_t> asked_;  ///< names asked for; guarded by mutex_
  std::deque<Entry> queue_;                         ///< guarded by mutex_
  std::optional<Entry> dropping_;                   ///< guarded by mutex_ until it is set
  std::jthread reader_;                             ///< goes through the mount
  std::jthread dropper_;                            ///< talks to its device
};

}  // namespace shardfs
