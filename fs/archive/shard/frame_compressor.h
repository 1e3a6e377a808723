// Compresses frames with several threads and writes them in order.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "fs/archive/shard/output.h"
#include "fs/base/bytes.h"
#include "fs/base/result.h"
#include "fs/tree/builder.h"

namespace shardfs {

/// add() and finish() from one thread; that thread alone writes to the output. What is written does
/// not depend on `threads`.
class FrameCompressor {
 public:
  /// With one thread (or where no more are to be had) add() compresses itself. `out` must outlive
  /// this.
  FrameCompressor(int level, unsigned threads, std::uint64_t frame_size, Output& out);
  ~FrameCompressor();
  FrameCompressor(const FrameCompressor&) = delete;
  FrameCompressor& operator=(const FrameCompressor&) = delete;

  /// Takes the decoded bytes of the next frame. Waits while too much is under way.
  [[nodiscard]] Result<void> add(Bytes decoded);

  /// Waits for all frames and writes them. The tables have their sentinels then.
  [[nodiscard]] Result<void> finish();

  [[nodiscard]] const Frames& frames() const { return frames_; }

 private:
  struct Job;

  void work();
  [[nodiscard]] Result<void> write_first();
  [[nodiscard]] Result<void> write(const Job& job);
  bool first_is_done();

  const int level_;
  const std::uint64_t limit_;  ///< decoded bytes under way
  Output& out_;
  Frames frames_;
  std::uint64_t position_ = 0;
  std::deque<std::shared_ptr<Job>> jobs_;  ///< in order of frames; the adding thread's own
  std::uint64_t under_way_ = 0;            ///< decoded bytes in jobs_

  std::mutex mutex_;
  std::condition_variable work_to_do_, job_done_;
  std::deque<std::shared_ptr<Job>> waiting_;  ///< guarded by mutex_
  bool stop_ = false;                         ///< guarded by mutex_
  std::vector<std::jthread> threads_;
};

}  // namespace shardfs
