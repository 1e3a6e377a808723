// Puts bytes into the kernel's page cache.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

#include "fs/base/bytes.h"

struct fuse_session;

namespace shardfs {

/// A thread that does nothing but that, through a descriptor of the mount's device that it alone
/// has. The kernel has it wait for pages that a READ holds, and no signal ends that: if the process
/// is killed, the other descriptors are closed, so that the READs which were taken by them end, and
/// then this thread can end too. (Not one that is still in the queue, taken by nobody: killed with
/// four readers at work, one process in some 500 was held up by that.) One thread at a time may use
/// it.
class StoreThread {
 public:
  /// Where no such thread can be had (a sandbox, a device that is not to be opened), the caller of
  /// run() does it himself.
  explicit StoreThread(fuse_session* session);
  ~StoreThread();
  StoreThread(const StoreThread&) = delete;
  StoreThread& operator=(const StoreThread&) = delete;

  /// Stores all of a file, given by its number for the kernel, of at most 1 MiB. Returns 0 or a
  /// negative errno; -ENOENT: the kernel does not know it.
  using Store = std::function<int(std::uint64_t inode, ByteSpan bytes)>;
  /// Has the thread run `work`, and waits for it. It may open no descriptor, nor use any.
  void run(const std::function<void(const Store&)>& work);

 private:
  [[nodiscard]] bool take_device() const;
  void serve(const std::stop_token& stop);

  fuse_session* session_;
  const Store store_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  const std::function<void(const Store&)>* work_ = nullptr;  ///< guarded by mutex_
  bool serves_ = false;
  std::jthread thread_;
};

}  // namespace shardfs
