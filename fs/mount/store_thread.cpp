#include "fs/mount/store_thread.h"

#include <future>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "fs/base/own_descriptors.h"
#include "fs/base/unique_fd.h"

namespace shardfs {

namespace {

int store(fuse_session* session, std::uint64_t inode, ByteSpan bytes) {
  fuse_bufvec buffer = {};
  buffer.count = 1;
  buffer.buf[0].size = bytes.size();
  buffer.buf[0].mem = const_cast<std::byte*>(bytes.data());
  return fuse_lowlevel_notify_store(session, inode, 0, &buffer, FUSE_BUF_NO_SPLICE);
}

}  // namespace

StoreThread::StoreThread(fuse_session* session)
    : session_(session), store_([session](std::uint64_t inode, ByteSpan bytes) {
        return store(session, inode, bytes);
      }) {
  try {
    std::promise<bool> has_device;
    auto answer = has_device.get_future();
    thread_ = std::jthread(
        [this](const std::stop_token& stop, std::promise<bool> ready) {
          const bool has = take_device();
          ready.set_value(has);
          if (has) serve(stop);
        },
        std::move(has_device));
    serves_ = answer.get();
  } catch (const std::system_error&) {
    serves_ = false;
  }
}

StoreThread::~StoreThread() = default;

/// For this thread, libfuse's descriptor becomes another one of the same mount.
bool StoreThread::take_device() const {
  const int number = fuse_session_fd(session_);
  if (!own_descriptors(number)) return false;
  const UniqueFd device(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  auto of = static_cast<std::uint32_t>(number);
  return device && ::ioctl(device.get(), FUSE_DEV_IOC_CLONE, &of) == 0 &&
         ::dup3(device.get(), number, O_CLOEXEC) == number;
}

void StoreThread::serve(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, stop, [this] { return work_ != nullptr; })) {
    lock.unlock();
    (*work_)(store_);
    lock.lock();
    work_ = nullptr;
    changed_.notify_all();
  }
}

void StoreThread::run(const std::function<void(const Store&)>& work) {
  if (!serves_) return work(store_);
  std::unique_lock lock(mutex_);
  work_ = &work;
  changed_.notify_all();
  changed_.wait(lock, [this] { return work_ == nullptr; });
}

}  // namespace shardfs
