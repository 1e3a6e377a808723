// One mount, from mount(2) to the end of its last request.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <signal.h>

#include "fs/base/result.h"
#include "fs/dataset/dataset.h"
#include "fs/mount/list_ahead.h"
#include "fs/mount/pusher.h"
#include "fs/mount/served.h"
#include "fs/mount/slow_pool.h"
#include "fs/mount/view.h"

struct fuse_session;

namespace shardfs {

struct MountOptions {
  std::string directory;  ///< absolute, exists
  Ownership ownership;
  std::string
      subdir;  ///< directory of the archive to show as root, "" for all; no leading or trailing "/"
  bool allow_other = false;  ///< let other users in
  /// Have fusermount3 unmount if this process dies. Costs a request each time a directory is
  /// opened.
  bool auto_unmount = false;
  bool noexec = false;
  std::chrono::milliseconds scan_wait{2000};  ///< see Opening::wait()
  /// Whether programs that read this data set into GPU memory by themselves may, or must: "off",
  /// "auto", "require". Told to them, and not used here.
  std::string gpu = "auto";
  bool push = true;  ///< put files into the page cache unasked; off to measure what that gains
  std::uint32_t masked_capabilities = 0;  ///< FUSE_CAP_* bits not to use; for tests
};

/// The signals that end a mount: SIGINT, SIGTERM and SIGHUP.
[[nodiscard]] sigset_t ending_signals();

/// Always read-only, without devices and set-id bits. One at a time in a process.
class Session {
 public:
  /// Mounts, and agrees with the kernel on the protocol; requests wait until serve(). SIGINT,
  /// SIGTERM and SIGHUP are blocked from here on. `dataset` and `scenes` must outlive the session.
  /// Unsupported: not allowed, or no FUSE here.
  [[nodiscard]] static Result<std::unique_ptr<Session>> mount(const Dataset& dataset,
                                                              Scenes& scenes,
                                                              const MountOptions& options);
  /// Has all of the archive shown, which is open. Before serve(), or by `opened`. Invalid: `subdir`
  /// is no directory.
  [[nodiscard]] Result<void> show_whole();
  /// Unmounts lazily if still mounted.
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Serves with several threads until the directory is unmounted and its last file closed, or
  /// until one of the signals comes: then unmounts, lazily if files are in use (those get errors),
  /// so that no dead mount stays behind. If anything hangs for kGrace after a signal, the process
  /// exits with code 2. `ready` is called once requests are being served, and `opened`, by the same
  /// thread, once the descriptor `opening` is readable, if it is not -1.
  [[nodiscard]] Result<void> serve(
      const std::function<void()>& ready, int opening = -1,
      const std::function<void()>& opened = [] {});

  /// The figures at the end of serve(), as stats_json() gives them.
  [[nodiscard]] const std::string& final_stats() const { return final_stats_; }

  static constexpr int kGraceSeconds = 5;

 private:
  Session(const Dataset& dataset, Scenes& scenes, const MountOptions& options);
  Result<void> attach(const MountOptions& options);
  Result<void> handshake();
  Result<void> detach();
  int wait_for_end(int loop_ended, int opening, const std::function<void()>& opened) const;
  void begin_to_push();

  const bool auto_unmount_;
  const bool push_;
  Served served_;
  fuse_session* session_ = nullptr;
  std::unique_ptr<Pusher> pusher_;
  std::unique_ptr<ListAhead> list_ahead_;
  SlowPool slow_, reports_;
  std::uint64_t device_ = 0;  ///< the mount's, so that no other is ever unmounted
  bool mounted_ = false;
  bool serving_ = false;
  std::string final_stats_;
};

}  // namespace shardfs
