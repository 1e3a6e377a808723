// Opens a data set's archive beside the mount that shows it.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "fs/base/result.h"
#include "fs/base/unique_fd.h"
#include "fs/dataset/dataset.h"
#include "fs/mount/scenes.h"

namespace shardfs {

/// A thread that opens an archive and shows the parts of it; who serves the mount shows the whole.
class Opening {
 public:
  /// Begins. All must outlive this object. The thread takes none of the signals that end a mount.
  Opening(Dataset& dataset, Scenes& scenes, ScanProgress progress);
  /// Gives up, if it is not done.
  ~Opening();
  Opening(const Opening&) = delete;
  Opening& operator=(const Opening&) = delete;

  /// Waits until the archive is open, and after `patience` for a first part of it only. Whether it
  /// is open; errors as Dataset::open_archive().
  [[nodiscard]] Result<bool> wait(std::chrono::milliseconds patience);

  /// Readable once it is done; -1 if it was done when wait() returned.
  [[nodiscard]] int fd() const { return over_.get(); }
  /// REQUIRES: it is done.
  [[nodiscard]] Result<void> result() const;

 private:
  void open();

  Dataset& dataset_;
  Scenes& scenes_;
  ScanProgress progress_;
  UniqueFd over_;

  std::atomic<bool> stopped_{false};

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool any_shown_ = false;              ///< guarded by mutex_, like the next
  std::optional<Result<void>> result_;  ///< once it is done
  std::jthread thread_;
};

}  // namespace shardfs
