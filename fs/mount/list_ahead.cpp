#include "fs/mount/list_ahead.h"

#include <algorithm>
#include <array>
#include <future>
#include <system_error>
#include <utility>

#include <dirent.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "fs/base/own_descriptors.h"
#include "fs/base/unique_fd.h"
#include "fs/mount/unmount.h"

namespace shardfs {

ListAhead::ListAhead(fuse_session* session, const Tree& tree, const View& view,
                     std::string directory, std::uint64_t device)
    : session_(session),
      tree_(tree),
      view_(view),
      mounted_at_(std::move(directory)),
      device_(device),
      names_(tree.entries()),
      done_(tree.entries()) {}

ListAhead::~ListAhead() { stop(); }

void ListAhead::start() {
  try {
    std::promise<Result<void>> apart;
    auto answer = apart.get_future();
    reader_ = std::jthread(
        [this](const std::stop_token& stop, std::promise<Result<void>> ready) {
          const auto done = own_descriptors();
          ready.set_value(done);
          if (done) read_ahead(stop);
        },
        std::move(apart));
    const auto done = answer.get();
    if (!done) return spdlog::warn("directories are not listed ahead: {}", done.error().message);
    dropper_ = std::jthread([this](const std::stop_token& stop) { drop(stop); });
    started_ = true;
  } catch (const std::system_error& error) {
    spdlog::warn("directories are not listed ahead: no thread: {}", error.what());
  }
}

void ListAhead::stop() {
  for (std::jthread* thread : {&reader_, &dropper_}) thread->request_stop();
  for (std::jthread* thread : {&reader_, &dropper_})
    if (thread->joinable()) thread->join();
}

void ListAhead::asked(Entry directory) {
  if (!started_ || done_.contains(directory)) return;
  const auto children = tree_.child_range(directory);
  if (!children || children->count < kFewest) return void(done_.insert(directory));
  {
    const std::lock_guard lock(mutex_);
    if (++asked_[directory] < enough(directory, children->count)) return;
    asked_.erase(directory);
    if (!done_.insert(directory)) return;
    queue_.push_back(directory);
  }
  changed_.notify_all();
}

std::uint32_t ListAhead::enough(Entry directory, std::uint32_t children) const {
  if (names_.contains(directory)) return std::max(2U, children / kOneInListed);
  return std::max(kFewest / 2, children / kOneIn);
}

/// Who goes through a tree does with a directory what he did with the one before.
bool ListAhead::expects_more() {
  const std::uint64_t before = last_names_;
  return before != kNone && done_.contains(static_cast<Entry>(before)) &&
         ++told_at_once_ % kTryEvery != 0;
}

bool ListAhead::tells_all(Entry directory, std::uint64_t offset) {
  if (!started_) return true;
  if (done_.contains(directory)) {
    if (offset == 0 && listing_ == directory) told_all_ = true;
    return true;
  }
  const auto children = tree_.child_range(directory);
  if (!children || children->count < kFewest) return true;
  if (names_.contains(directory)) return false;
  if (expects_more()) return done_.insert(directory), true;
  names_.insert(directory);
  last_names_ = directory;
  return false;
}

void ListAhead::read_ahead(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, stop, [this] { return !queue_.empty(); })) {
    const Entry directory = queue_.front();
    queue_.pop_front();
    lock.unlock();
    list(directory, stop);
    lock.lock();
  }
}

void ListAhead::drop(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, stop, [this] { return dropping_.has_value(); })) {
    lock.unlock();
    fuse_lowlevel_notify_inval_inode(session_, view_.inode(*dropping_), 0, 0);
    lock.lock();
    dropping_.reset();
    changed_.notify_all();
  }
}

void ListAhead::have_dropped(Entry directory, const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  dropping_ = directory;
  changed_.notify_all();
  changed_.wait(lock, stop, [this] { return !dropping_.has_value(); });
}

void ListAhead::read_whole(int directory, const std::stop_token& stop) {
  std::array<char, 64 * 1024> names;
  while (!stop.stop_requested() && ::getdents64(directory, names.data(), names.size()) > 0) {
  }
}

// What fails here will fail, or not, for whoever asks.
void ListAhead::list(Entry directory, const std::stop_token& stop) {
  const auto path = tree_.path(directory), root = tree_.path(view_.root());
  if (!path || !root) return;
  const std::string shown = mounted_at_ + "/" + path->substr(root->size());
  const UniqueFd fd(::open(shown.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd || device_at(shown) != device_) return;
  told_all_ = false;
  listing_ = directory;
  read_whole(fd.get(), stop);
  // It may have been answered from the names that the kernel had kept of an earlier listing. They
  // are whole now, even if somebody is in the midst of that listing: the kernel never again keeps
  // a directory of which a part was taken from it before.
  if (told_all_) return;
  have_dropped(directory, stop);
  ::lseek(fd.get(), 0, SEEK_SET);
  read_whole(fd.get(), stop);
}

}  // namespace shardfs
