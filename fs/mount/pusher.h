// Puts files into the kernel's page cache before they are asked for.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

#include "fs/archive/archive.h"
#include "fs/base/atomic_set.h"
#include "fs/mount/counters.h"
#include "fs/mount/store_thread.h"
#include "fs/mount/view.h"

struct fuse_session;

namespace shardfs {

/// When a file is read, files that lie beside it in the archive are stored in the page cache, so
/// that the kernel need not ask for them: all that begin in the same window of kWindow bytes, once
/// a window, where the data set fits into memory; otherwise only those of a frame that had to be
/// decoded anyway. By threads of its own: a store waits for pages that a READ holds locked, so a
/// thread that serves READs would wait for itself.
///
/// Only inodes that the kernel has been told of can be stored into, so told() and forgotten() keep
/// book. Right after a READDIRPLUS reply the kernel has not made the inode yet (ENOENT): such files
/// are tried once more, later.
class Pusher {
 public:
  /// All references must outlive this object. `whole_windows`: the data set fits into memory. No
  /// thread runs before start().
  Pusher(fuse_session* session, const Archive& archive, bool whole_windows, const View& view,
         Counters& counters);
  ~Pusher();
  Pusher(const Pusher&) = delete;
  Pusher& operator=(const Pusher&) = delete;

  /// Where no thread can be had, nothing is pushed.
  void start();
  /// Waits for the threads' end, which may be in a read from the archive.
  void stop();

  /// The kernel has been, or is just being, told of `inode`: because somebody asked for it by name,
  /// and will most likely read it now, or by a listing. Any thread.
  void told(Entry inode) { told_.insert(inode); }
  void listed(Entry inode) {
    told_.insert(inode);
    listed_.insert(inode);
  }
  /// The kernel has dropped `inode`, and its pages with it. Any thread.
  void forgotten(Entry inode);

  /// `inode` is being read: it is not to be pushed. Whether it is so for the first time, as far as
  /// is known. Any thread.
  bool asked(Entry inode) { return cached_.insert(inode); }
  /// `inode` was read, `first` as asked() said, and `block` had to be decoded for it, if not null.
  /// To be called after the reply, by any thread; never waits. Dropped when more than
  /// kMaxQueuedBytes are waiting.
  void offer(Entry inode, bool first, std::shared_ptr<const DecodedBlock> block);

  /// Bytes of the archive's stream, some 50 files of 20 KB.
  static constexpr std::uint64_t kWindow = 1 << 20;
  static constexpr std::size_t kMaxQueuedBytes = 16 << 20;

 private:
  using Clock = std::chrono::steady_clock;
  struct Job {
    Clock::time_point due;
    Entry read = 0;                             ///< the file that was read
    bool first = true;                          ///< for the first time, as far as is known
    std::shared_ptr<const DecodedBlock> block;  ///< none yet: the window of `read`
    std::vector<Entry> again;                   ///< only these, which have been tried before
  };
  using Batch = std::vector<std::pair<Entry, ByteSpan>>;
  struct Tools {  ///< of one thread
    StoreThread device;
    std::shared_ptr<DecodedBlock> window;  ///< memory for it, if nobody holds it any more
  };

  void run(const std::stop_token& stop);
  [[nodiscard]] bool next(const std::stop_token& stop, Job& job);
  void work(Job job, Tools& tools);
  void enqueue(Job job);
  void offer_window(Entry inode);
  /// The kernel knows the file, does not have its bytes, and nobody is about to read it. (Which
  /// file was looked up by name just now is a matter of which thread came first.)
  [[nodiscard]] bool is_wanted(Entry inode) const {
    return listed_.contains(inode) && !cached_.contains(inode);
  }
  [[nodiscard]] bool are_adjacent(Entry first, Entry second) const;
  void note_dropped(const Job& job);
  void push_neighbours(const Job& job, Batch& batch);
  void push_beside(const Job& job, Entry from, Entry to, int step, Batch& batch);
  void push(const Job& job, Entry inode, Batch& batch);
  void store(Job& job, const Batch& batch, StoreThread& device);

  fuse_session* session_;
  const Archive& archive_;
  const bool whole_windows_;
  const View& view_;
  Counters& counters_;
  AtomicSet told_;     ///< entries: the kernel knows the inode
  AtomicSet listed_;   ///< entries: and has it from a listing
  AtomicSet cached_;   ///< entries: the kernel has been given the bytes
  AtomicSet windows_;  ///< numbers of windows that have been offered

  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<Job> queue_;  ///< in order of `due`
  std::size_t queued_bytes_ = 0;
  std::vector<std::jthread> threads_;
};

}  // namespace shardfs
