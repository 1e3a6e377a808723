#include "tests/support/slowstore_reads.h"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

namespace slowstore {
namespace {

constexpr int kAnswering = 4;  ///< threads; more than one, as the directory served may be slow too

/// Whether a thread of this machine has been killed. False for one that is gone.
bool is_killed(pid_t thread) {
  std::ifstream status(fmt::format("/proc/{}/status", thread));
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with("SigPnd:")) continue;
    return (std::stoull(line.substr(7), nullptr, 16) >> (SIGKILL - 1) & 1) != 0;
  }
  return false;
}

/// Bytes that a read of `asked` bytes will give.
std::size_t available(const File& file, std::uint64_t offset, std::size_t asked) {
  struct stat st = {};
  if (::fstat(file.fd.get(), &st) != 0) return 0;
  const auto size = static_cast<std::uint64_t>(st.st_size);
  return offset < size ? std::min<std::uint64_t>(asked, size - offset) : 0;
}

/// Fills `to` as far as the file reaches; returns the number of bytes, or -errno.
ssize_t read_at(const File& file, std::uint64_t offset, char* to, std::size_t size) {
  std::size_t done = 0;
  while (done < size) {
    const ssize_t got =
        ::pread(file.fd.get(), to + done, size - done, static_cast<off_t>(offset + done));
    if (got < 0) return -errno;
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return static_cast<ssize_t>(done);
}

}  // namespace

struct Reads::Read {
  static constexpr auto kNever = Clock::time_point::max();

  Reads* owner;
  fuse_req_t request;
  const File* file;
  std::uint64_t offset;
  std::size_t asked;
  Effect effect;
};

Reads::Reads(Counters& counters, Pace pace) : counters_(counters), pace_(pace) {}
Reads::~Reads() = default;

void Reads::start() {
  threads_.emplace_back([this] { wait_for_due(); });
  for (int i = 0; i < kAnswering; ++i) threads_.emplace_back([this] { answer_ready(); });
}

void Reads::end() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    for (auto& [due, read] : waiting_) {
      read->effect.error = EIO;
      ready_.push_back(std::move(read));
    }
    waiting_.clear();
  }
  waiting_changed_.notify_all();
  ready_changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

// An interrupt may come as soon as it is allowed, before the read is in a queue: schedule() then
// finds the error set.
void Reads::arrived(fuse_req_t request, const File& file, std::uint64_t offset, std::size_t asked) {
  counters_.arrived(file, asked);
  auto read = std::make_unique<Read>(Read{this, request, &file, offset, asked, {}});
  {
    const std::lock_guard lock(mutex_);
    read->effect = faults_.meet(file.name, offset, asked);
  }
  fuse_req_interrupt_func(request, on_interrupt, read.get());
  std::unique_lock lock(mutex_);
  if (ending_) {
    read->effect.error = EIO;
    lock.unlock();
    std::vector<char> nothing;
    return answer(*read, nothing);
  }
  schedule(std::move(read));
}

void Reads::add(Fault fault) {
  const std::lock_guard lock(mutex_);
  faults_.add(std::move(fault));
}

void Reads::clear() {
  const std::lock_guard lock(mutex_);
  faults_.clear();
  release_locked(0);
}

void Reads::release(int error) {
  const std::lock_guard lock(mutex_);
  faults_.clear_stalls();
  release_locked(error);
}

void Reads::set_latency(std::chrono::duration<double> latency) {
  const std::lock_guard lock(mutex_);
  pace_.latency = latency;
}

void Reads::set_bandwidth(double bandwidth) {
  const std::lock_guard lock(mutex_);
  pace_.bandwidth = bandwidth;
  link_free_ = {};
}

std::size_t Reads::stalled() const {
  const std::lock_guard lock(mutex_);
  return waiting_.count(Read::kNever);
}

// Called by libfuse for the first signal to the reader. As on a network file system, only one that
// is killed stops waiting.
void Reads::on_interrupt(fuse_req_t request, void* data) {
  auto& read = *static_cast<Read*>(data);
  if (is_killed(fuse_req_ctx(request)->pid)) read.owner->interrupt(read);
}

void Reads::interrupt(Read& read) {
  const std::lock_guard lock(mutex_);
  read.effect.error = EINTR;
  read.effect.stalled = false;
  const auto found = std::ranges::find_if(
      waiting_, [&](const auto& waiting) { return waiting.second.get() == &read; });
  if (found == waiting_.end()) return;
  hand_on(std::move(found->second));
  waiting_.erase(found);
}

/// Puts a read in a queue. REQUIRES: mutex_ is held.
void Reads::schedule(std::unique_ptr<Read> read) {
  if (read->effect.error == EINTR) return hand_on(std::move(read));
  const auto now = Clock::now();
  auto due = Read::kNever;
  if (!read->effect.stalled) {
    const bool sends = read->effect.error == 0 && pace_.bandwidth > 0;
    const auto bytes = sends ? available(*read->file, read->offset, read->asked) : 0;
    const std::chrono::duration<double> sending(bytes == 0 ? 0 : bytes / pace_.bandwidth);
    link_free_ = std::max(link_free_, now) + std::chrono::duration_cast<Clock::duration>(sending);
    due = std::max(now + std::chrono::duration_cast<Clock::duration>(pace_.latency), link_free_);
  }
  const bool first = waiting_.empty() || due < waiting_.begin()->first;
  waiting_.emplace(due, std::move(read));
  if (first) waiting_changed_.notify_one();
}

/// REQUIRES: mutex_ is held.
void Reads::hand_on(std::unique_ptr<Read> read) {
  ready_.push_back(std::move(read));
  ready_changed_.notify_one();
}

/// REQUIRES: mutex_ is held.
void Reads::release_locked(int error) {
  const auto [begin, end] = waiting_.equal_range(Read::kNever);
  std::vector<std::unique_ptr<Read>> held;
  for (auto it = begin; it != end; ++it) held.push_back(std::move(it->second));
  waiting_.erase(begin, end);
  for (auto& read : held) {
    read->effect.stalled = false;
    if (error != 0) read->effect.error = error;
    schedule(std::move(read));
  }
}

void Reads::wait_for_due() {
  std::unique_lock lock(mutex_);
  while (!ending_) {
    const auto due = waiting_.empty() ? Read::kNever : waiting_.begin()->first;
    if (due == Read::kNever) {
      waiting_changed_.wait(lock);
    } else if (due > Clock::now()) {
      waiting_changed_.wait_until(lock, due);
    } else {
      hand_on(std::move(waiting_.begin()->second));
      waiting_.erase(waiting_.begin());
    }
  }
}

void Reads::answer_ready() {
  std::vector<char> buffer;
  std::unique_lock lock(mutex_);
  for (;;) {
    ready_changed_.wait(lock, [this] { return ending_ || !ready_.empty(); });
    if (ready_.empty()) return;
    const auto read = std::move(ready_.front());
    ready_.pop_front();
    lock.unlock();
    answer(*read, buffer);
    lock.lock();
  }
}

// The file is read as late as this, so that a read that was held gives what the file is now.
void Reads::answer(Read& read, std::vector<char>& buffer) {
  // Waits for an interrupt that is being handled: the read is gone afterwards.
  fuse_req_interrupt_func(read.request, nullptr, nullptr);
  if (read.effect.error == 0) {
    buffer.resize(std::max(buffer.size(), read.asked));
    const ssize_t got = read_at(*read.file, read.offset, buffer.data(), read.asked);
    if (got >= 0) {
      auto size = static_cast<std::size_t>(got);
      const Damage damage = spoil(read.effect, read.offset, buffer.data(), size);
      counters_.answered(*read.file, read.offset, size, damage);
      fuse_reply_buf(read.request, buffer.data(), size);
      return;
    }
    read.effect.error = static_cast<int>(-got);
  }
  counters_.failed();
  fuse_reply_err(read.request, read.effect.error);
}

}  // namespace slowstore
