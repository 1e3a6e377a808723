#include "fs/mount/pusher.h"

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include <fuse_lowlevel.h>
#include <spdlog/spdlog.h>

namespace shardfs {
namespace {

// Long enough for the kernel to digest a READDIRPLUS reply, short beside the time between two reads
// of a directory.
constexpr std::chrono::milliseconds kRetryAfter{20};
// One reads or waits for the disk while the other stores; and beside many readers one alone gets so
// little of the processors that a third of the files are asked for before it comes to them.
constexpr std::size_t kThreads = 2;
// Neighbours looked at on each side; a window of 1 MiB holds at most 1,024 files with their
// headers.
constexpr Entry kReach = 2048;
// Padding and headers between the data of two neighbours, with a long name and some attributes.
constexpr std::uint64_t kMostHeaders = 8192;
// The kernel takes at most this much in one store.
constexpr std::size_t kMaxStore = 1 << 20;

std::size_t held_by(const std::shared_ptr<const DecodedBlock>& block) {
  return block ? block->bytes.size() : 0;
}

}  // namespace

Pusher::Pusher(fuse_session* session, const Archive& archive, bool whole_windows, const View& view,
               Counters& counters)
    : session_(session),
      archive_(archive),
      whole_windows_(whole_windows),
      view_(view),
      counters_(counters),
      told_(archive.tree().entries()),
      listed_(archive.tree().entries()),
      cached_(archive.tree().entries()),
      windows_(whole_windows ? archive.stream_size() / kWindow + 1 : 0) {}

Pusher::~Pusher() { stop(); }

void Pusher::start() {
  try {
    while (threads_.size() < kThreads)
      threads_.emplace_back([this](const std::stop_token& stop) { run(stop); });
  } catch (const std::system_error& error) {
    spdlog::warn("files are pushed into the page cache by {} threads: no more: {}", threads_.size(),
                 error.what());
  }
}

void Pusher::stop() {
  for (auto& thread : threads_) thread.request_stop();
  threads_.clear();
}

void Pusher::forgotten(Entry inode) {
  told_.erase(inode);
  listed_.erase(inode);
  cached_.erase(inode);
}

void Pusher::offer(Entry inode, bool first, std::shared_ptr<const DecodedBlock> block) {
  if (whole_windows_) {
    offer_window(inode);
  } else if (block) {
    enqueue({Clock::now(), inode, first, std::move(block), {}});
  }
}

// Without a neighbour to push (no listing yet, data in shuffled order) the window stays to be
// offered.
void Pusher::offer_window(Entry inode) {
  if (archive_.tree().file_size(inode) > Archive::kWindowTail) return;
  const auto position = archive_.tree().position(inode);
  if (!position || windows_.contains(*position / kWindow)) return;
  if (!(is_wanted(inode + 1) && are_adjacent(inode, inode + 1)) &&
      !(is_wanted(inode - 1) && are_adjacent(inode - 1, inode))) {
    return;
  }
  if (windows_.insert(*position / kWindow)) enqueue({Clock::now(), inode, true, nullptr, {}});
}

/// Whether the data of `second` follow those of `first` in the archive, but for headers and
/// padding.
bool Pusher::are_adjacent(Entry first, Entry second) const {
  const auto position = archive_.tree().position(first);
  const auto next = archive_.tree().position(second);
  if (!position || !next) return false;
  const std::uint64_t end = *position + archive_.tree().file_size(first);
  return *next >= end && *next - end <= kMostHeaders;
}

void Pusher::enqueue(Job job) {
  {
    const std::lock_guard lock(mutex_);
    if (queued_bytes_ + held_by(job.block) > kMaxQueuedBytes) return;
    queued_bytes_ += held_by(job.block);
    const auto later = [](const Job& a, const Job& b) { return a.due < b.due; };
    queue_.insert(std::ranges::upper_bound(queue_, job, later), std::move(job));
  }
  changed_.notify_one();
}

void Pusher::run(const std::stop_token& stop) {
  Tools tools{StoreThread(session_), {}};
  Job job;
  while (next(stop, job)) work(std::exchange(job, {}), tools);
}

bool Pusher::next(const std::stop_token& stop, Job& job) {
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    const auto now = Clock::now();
    if (!queue_.empty() && queue_.front().due <= now) {
      job = std::move(queue_.front());
      queue_.pop_front();
      queued_bytes_ -= held_by(job.block);
      return true;
    }
    const auto wake = queue_.empty() ? now + std::chrono::hours(1) : queue_.front().due;
    changed_.wait_until(lock, stop, wake,
                        [&] { return !queue_.empty() && queue_.front().due < wake; });
  }
  return false;
}

void Pusher::work(Job job, Tools& tools) {
  if (!job.block) {
    auto& window = tools.window;
    if (!window || window.use_count() > 1) window = std::make_shared<DecodedBlock>();
    if (!archive_.window(job.read, kWindow, *window)) return;  // A reader of it will be told.
    job.block = window;
  }
  const std::vector<Entry> again = std::exchange(job.again, {});
  Batch batch;
  if (again.empty()) {
    if (!whole_windows_ && !job.first) note_dropped(job);
    push_neighbours(job, batch);
  } else {
    for (const Entry file : again) push(job, file, batch);
  }
  store(job, batch, tools.device);
  job.due = Clock::now() + kRetryAfter;
  if (again.empty() && !job.again.empty()) enqueue(std::move(job));
}

// Asked for a file that it had been given, the kernel has dropped pages; the neighbours' most
// likely too.
void Pusher::note_dropped(const Job& job) {
  const auto siblings = archive_.tree().child_range(archive_.tree().parent(job.read));
  if (!siblings) return;
  const Entry low = std::max(siblings->first, job.read - std::min(job.read, kReach));
  const Entry high = std::min(siblings->first + siblings->count, job.read + kReach);
  for (Entry file = low; file < high; ++file) cached_.erase(file);
  cached_.insert(job.read);
}

void Pusher::push_neighbours(const Job& job, Batch& batch) {
  const auto siblings = archive_.tree().child_range(archive_.tree().parent(job.read));
  if (!siblings) return;
  push_beside(job, job.read + 1, siblings->first + siblings->count, 1, batch);
  push_beside(job, job.read - 1, siblings->first - 1, -1, batch);
}

// Files of the block from entry `from` on, up to the first that does not lie in it whole.
void Pusher::push_beside(const Job& job, Entry from, Entry to, int step, Batch& batch) {
  Entry left = kReach;
  for (Entry e = from; e != to && left > 0; e += static_cast<Entry>(step), --left) {
    const auto inode = archive_.tree().inode(e);
    if (!inode) return;
    if (*inode != e || archive_.tree().file_size(e) == 0) continue;
    if (!archive_.holds(*job.block, e)) return;
    push(job, e, batch);
  }
}

void Pusher::push(const Job& job, Entry inode, Batch& batch) {
  if (!told_.contains(inode) || cached_.contains(inode)) return;
  const auto bytes = archive_.contents_in(*job.block, inode);
  if (bytes && bytes->size() <= kMaxStore) batch.emplace_back(inode, *bytes);
}

// A file that the kernel does not know yet is put on the list of those to be tried again.
void Pusher::store(Job& job, const Batch& batch, StoreThread& device) {
  if (batch.empty()) return;
  device.run([&](const StoreThread::Store& store) {
    for (const auto& [inode, bytes] : batch) {
      if (!cached_.insert(inode)) continue;  // It is being read meanwhile.
      const int result = store(view_.inode(inode), bytes);
      if (result == 0) counters_.count_pushed(bytes.size());
      if (result != 0) cached_.erase(inode);
      if (result == -ENOENT) job.again.push_back(inode);
    }
  });
}

}  // namespace shardfs
