// The reads under way: each is answered when it is due, whatever the others wait for.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <fuse_lowlevel.h>

#include "tests/support/slowstore_counters.h"
#include "tests/support/slowstore_faults.h"
#include "tests/support/slowstore_files.h"

namespace slowstore {

/// How fast answers come.
struct Pace {
  std::chrono::duration<double> latency{0.003};  ///< of each read, side by side
  double bandwidth = 1e9;                        ///< of all together, bytes/s; 0 is no limit
};

/// Thread-safe.
class Reads {
 public:
  Reads(Counters& counters, Pace pace);
  ~Reads();
  Reads(const Reads&) = delete;
  Reads& operator=(const Reads&) = delete;

  void start();
  /// Answers all reads with EIO, those that come later too, and returns when it is done.
  /// REQUIRES: start() was called.
  void end();

  /// Takes over `request`, which is answered later, and returns at once.
  void arrived(fuse_req_t request, const File& file, std::uint64_t offset, std::size_t asked);

  void add(Fault fault);
  /// Ends all faults; reads that they hold are answered.
  void clear();
  /// Answers the reads that are held, with what they asked for or with `error` unless that is 0,
  /// and holds no more.
  void release(int error);
  /// For reads that come after it.
  void set_latency(std::chrono::duration<double> latency);
  void set_bandwidth(double bandwidth);

  /// Reads that are held.
  [[nodiscard]] std::size_t stalled() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Read;

  static void on_interrupt(fuse_req_t request, void* read);
  void wait_for_due();
  void answer_ready();
  void answer(Read& read, std::vector<char>& buffer);
  void interrupt(Read& read);
  void schedule(std::unique_ptr<Read> read);
  void hand_on(std::unique_ptr<Read> read);
  void release_locked(int error);

  Counters& counters_;
  mutable std::mutex mutex_;
  Pace pace_;
  Faults faults_;
  bool ending_ = false;
  Clock::time_point link_free_;  ///< when the last byte promised so far has been sent
  std::multimap<Clock::time_point, std::unique_ptr<Read>> waiting_;  ///< by when it is due
  std::deque<std::unique_ptr<Read>> ready_;                          ///< due
  std::condition_variable waiting_changed_, ready_changed_;
  std::vector<std::thread> threads_;
};

}  // namespace slowstore
