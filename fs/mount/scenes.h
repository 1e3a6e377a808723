// The scenes of a mount, one after the other, and the requests that wait for the next.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fs/base/result.h"
#include "fs/mount/scene.h"
#include "fs/mount/slow_pool.h"

struct fuse_req;

namespace shardfs {

/// A scene that is being looked at, and stays as long as that.
class Sight {
 public:
  Sight(const Scene* scene, std::shared_ptr<const Scene> held)
      : scene_(scene), held_(std::move(held)) {}
  const Scene& operator*() const { return *scene_; }
  const Scene* operator->() const { return scene_; }

 private:
  const Scene* scene_;
  std::shared_ptr<const Scene> held_;  ///< null for the whole one, which stays anyway
};

/// Mostly there is one scene only, of the whole archive, from the first request on. An archive that
/// takes long to be scanned is shown by parts meanwhile, each of which has all that the one before
/// had, under the same inode numbers; a request for what is not there yet waits for the next.
class Scenes {
 public:
  /// Both as in MountOptions.
  Scenes(const Ownership& ownership, std::string subdir)
      : ownership_(ownership), subdir_(std::move(subdir)) {}
  ~Scenes() { stop(); }
  Scenes(const Scenes&) = delete;
  Scenes& operator=(const Scenes&) = delete;

  // Called by who opens the archive.

  /// Has a first part shown, even if no request waits for it.
  void want_first();
  /// Whether anybody waits for more. Any thread.
  [[nodiscard]] bool wanted() const { return wanted_ != 0; }
  /// REQUIRES: no subdir.
  void show(std::shared_ptr<const Archive> part);
  /// `archive` must outlive this object. Invalid: it has no directory `subdir`. `before` is called
  /// with the scene before any request sees it.
  [[nodiscard]] Result<void> show_whole(
      const Archive& archive, const std::function<void(const Scene&)>& before = [](auto&) {});
  /// No more parts will come.
  void show_broken();

  // Called for requests.

  /// REQUIRES: one has been shown.
  [[nodiscard]] Sight now() const {
    const Scene* const whole = whole_.load(std::memory_order_acquire);
    return whole != nullptr ? Sight(whole, nullptr) : last();
  }
  enum class Until : bool {
    Next,  ///< scene than the one that was seen
    Last   ///< scene, for what no part can answer
  };
  /// Has `again` called, by another thread, once there is such a scene; or answers the request with
  /// EINTR if who asks is interrupted, and with EIO after stop().
  void wait(fuse_req* request, const Sight& seen, Until until, std::function<void()> again);

  /// Answers all that wait, now and from now on. Called again when no more requests come, it waits
  /// for those that have gone on.
  void stop();

  /// Bytes of the archive that the scan is done with, and in all; of none: 0 and 0. Any thread.
  void set_progress(std::uint64_t done, std::uint64_t size) {
    done_.store(done, std::memory_order_relaxed);
    size_.store(size, std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint64_t bytes_done() const { return done_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t bytes_in_all() const { return size_.load(std::memory_order_relaxed); }

 private:
  struct Waiting {
    fuse_req* request = nullptr;
    Until until = Until::Next;
    std::function<void()> again;
    bool interrupted = false;
    bool armed = false;  ///< whoever has a reason answers it, or has it go on
  };

  [[nodiscard]] Sight last() const;
  void publish(std::shared_ptr<const Scene> scene);
  static void interrupted(fuse_req* request, void* number);
  void interrupt(fuse_req* request, std::uint64_t number);
  void go_on(Waiting one);
  /// REQUIRES: mutex_ is held.
  Waiting take(std::uint64_t number);
  std::vector<Waiting> take_all(bool is_last);

  const Ownership ownership_;
  const std::string subdir_;
  std::atomic<const Scene*> whole_{nullptr};
  std::atomic<std::uint64_t> done_{0}, size_{0};
  std::atomic<std::size_t> wanted_{0};
  std::atomic<bool> numbers_told_{false};  ///< of more than the root

  std::mutex going_on_;  ///< held while requests go on, or are stopped
  mutable std::mutex mutex_;
  std::shared_ptr<const Scene> last_;                   ///< guarded by mutex_, like all below
  std::unordered_map<std::uint64_t, Waiting> waiting_;  ///< by number
  std::uint64_t next_number_ = 0;
  bool first_wanted_ = false;
  bool stopped_ = false;
  SlowPool pool_;  ///< for requests that go on
};

}  // namespace shardfs
