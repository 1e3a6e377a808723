#include "fs/mount/scenes.h"

#include <cerrno>
#include <utility>

#include <fmt/format.h>
#include <fuse_lowlevel.h>

#include "fs/mount/served.h"

namespace shardfs {

namespace {

/// The archive's owner keeps it.
std::shared_ptr<const Archive> not_owned(const Archive& archive) {
  return {std::shared_ptr<const Archive>(), &archive};
}

std::shared_ptr<const InodeNumbers> numbers_of(const Archive& archive) {
  auto stable = archive.numbers();
  if (!stable) return nullptr;
  return std::make_shared<const InodeNumbers>(std::move(stable), archive.tree().entries());
}

}  // namespace

void Scenes::want_first() {
  const std::lock_guard lock(mutex_);
  if (last_ || first_wanted_) return;
  first_wanted_ = true;
  ++wanted_;
}

void Scenes::show(std::shared_ptr<const Archive> part) {
  if (part->tree().entries() > 1) numbers_told_ = true;
  const View view(kRoot, ownership_, numbers_of(*part));
  publish(std::make_shared<const Scene>(std::move(part), view, Scene::State::Part));
}

Result<void> Scenes::show_whole(const Archive& archive,
                                const std::function<void(const Scene&)>& before) {
  const auto root = archive.tree().find(subdir_);
  if (!root || !archive.tree().child_range(*root)) {
    const std::string& name = archive.source().name();
    return fail(ErrorKind::Invalid,
                fmt::format("{}: no directory {} in it; try: shardfs ls {}", name, subdir_, name));
  }
  // Numbers that requests have been told stay.
  if (numbers_told_ && !archive.numbers())
    return fail(
        ErrorKind::Unsupported,
        archive.source().name() + ": its files have other numbers now; try: mount it again");
  const View view(*root, ownership_, numbers_told_ ? numbers_of(archive) : nullptr);
  auto scene = std::make_shared<const Scene>(not_owned(archive), view, Scene::State::Whole);
  before(*scene);
  publish(std::move(scene));
  return {};
}

void Scenes::show_broken() {
  const Sight seen = last();
  publish(std::make_shared<const Scene>(seen->archive, seen->view, Scene::State::Broken));
}

void Scenes::publish(std::shared_ptr<const Scene> scene) {
  const std::lock_guard going_on(going_on_);
  std::vector<Waiting> waiting;
  {
    const std::lock_guard lock(mutex_);
    last_.swap(scene);  // the one before goes when the lock has
    if (last_->is_whole()) whole_.store(last_.get(), std::memory_order_release);
    if (std::exchange(first_wanted_, false)) --wanted_;
    waiting = take_all(last_->is_last());
  }
  for (Waiting& one : waiting) go_on(std::move(one));
}

Sight Scenes::last() const {
  const std::lock_guard lock(mutex_);
  return {last_.get(), last_};
}

void Scenes::go_on(Waiting one) {
  fuse_req_interrupt_func(one.request, nullptr, nullptr);
  pool_.run(std::move(one.again));
}

Scenes::Waiting Scenes::take(std::uint64_t number) {
  Waiting one = std::move(waiting_.extract(number).mapped());
  if (one.until == Until::Next) --wanted_;
  return one;
}

std::vector<Scenes::Waiting> Scenes::take_all(bool is_last) {
  std::vector<std::uint64_t> numbers;
  for (const auto& [number, one] : waiting_)
    if (one.armed && (is_last || one.until == Until::Next)) numbers.push_back(number);
  std::vector<Waiting> all;
  for (const std::uint64_t number : numbers) all.push_back(take(number));
  return all;
}

// libfuse calls interrupted() at once, and with the request locked, if the interruption has come
// before: then it must not be answered there. And until libfuse is done with the request here,
// nobody else may answer it.
void Scenes::wait(fuse_req_t request, const Sight& seen, Until until, std::function<void()> again) {
  std::unique_lock lock(mutex_);
  const std::uint64_t number = next_number_++;
  waiting_.emplace(number, Waiting{request, until, std::move(again)});
  if (until == Until::Next) ++wanted_;
  lock.unlock();
  fuse_req_interrupt_func(request, &Scenes::interrupted, reinterpret_cast<void*>(number));
  lock.lock();
  Waiting& one = waiting_.at(number);
  const int refused = one.interrupted ? EINTR : stopped_ ? EIO : 0;
  const bool comes = until == Until::Last ? !last_->is_last() : last_.get() == &*seen;
  one.armed = refused == 0 && comes;
  if (one.armed) return;
  Waiting taken = take(number);
  lock.unlock();
  if (refused == 0) return go_on(std::move(taken));
  fuse_reply_err(request, refused);
}

void Scenes::interrupted(fuse_req_t request, void* number) {
  auto& served = *static_cast<Served*>(fuse_req_userdata(request));
  served.scenes.interrupt(request, reinterpret_cast<std::uint64_t>(number));
}

void Scenes::interrupt(fuse_req_t request, std::uint64_t number) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = waiting_.find(number);
    if (found == waiting_.end()) return;
    found->second.interrupted = true;
    if (!found->second.armed) return;
    take(number);
  }
  fuse_reply_err(request, EINTR);
}

void Scenes::stop() {
  const std::lock_guard going_on(going_on_);
  std::vector<Waiting> waiting;
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    waiting = take_all(true);
  }
  for (const Waiting& one : waiting) fuse_reply_err(one.request, EIO);
  pool_.stop();
}

}  // namespace shardfs
