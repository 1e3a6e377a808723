#include "fs/mount/opening.h"

#include <utility>

#include <signal.h>
#include <sys/eventfd.h>

namespace shardfs {

namespace {

/// Has the threads that are started meanwhile leave all signals to the others.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_ = {};
};

}  // namespace

Opening::Opening(Dataset& dataset, Scenes& scenes, ScanProgress progress)
    : dataset_(dataset),
      scenes_(scenes),
      progress_(std::move(progress)),
      over_(::eventfd(0, EFD_CLOEXEC)) {
  const SignalsBlocked blocked;
  thread_ = std::jthread([this] { open(); });
}

Opening::~Opening() {
  stopped_ = true;
  const std::lock_guard lock(mutex_);
  if (!result_) dataset_.cancel();
}

void Opening::open() {
  const auto progress = [this](std::uint64_t done, std::uint64_t size) {
    scenes_.set_progress(done, size);
    if (progress_) progress_(done, size);
  };
  PartsShown parts;
  parts.wanted = [this] { return scenes_.wanted(); };
  parts.stopped = [this] { return stopped_.load(); };
  parts.show = [this](std::shared_ptr<const Archive> part) {
    scenes_.show(std::move(part));
    const std::lock_guard lock(mutex_);
    any_shown_ = true;
    changed_.notify_all();
  };
  auto done = dataset_.open_archive(progress, parts);
  const std::lock_guard lock(mutex_);
  result_ = std::move(done);
  changed_.notify_all();
  ::eventfd_write(over_.get(), 1);
}

Result<bool> Opening::wait(std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, patience, [this] { return result_.has_value(); })) {
    scenes_.want_first();
    changed_.wait(lock, [this] { return any_shown_ || result_; });
  }
  if (!result_) return false;
  if (!*result_) return std::unexpected(result_->error());
  over_.reset();
  return true;
}

Result<void> Opening::result() const {
  const std::lock_guard lock(mutex_);
  return *result_;
}

}  // namespace shardfs
