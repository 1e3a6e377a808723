// The cache server's fetchers: they read the store and write the mirrors.
#include <algorithm>
#include <utility>

#include "cache/server/server.h"
#include "cache/server/steps.h"

namespace shardfs {

namespace {

using Clock = ArchiveCache::Clock;

/// Before it is looked again whether there is an archive that nobody has open.
constexpr std::chrono::seconds kNothingToDrop{10};

HotKey hot_key(const ArchiveId& id, std::uint64_t offset, std::uint64_t length) {
  return {id.bytes, offset, length};
}

}  // namespace

void Server::fetch() {
  std::unique_lock lock(mutex_);
  while (auto job = take_job(lock)) {
    job->archive->work_began();
    PageBuffer buffer = std::move(buffers_.back());
    buffers_.pop_back();
    lock.unlock();
    run_job(*job, buffer);
    lock.lock();
    buffers_.push_back(std::move(buffer));
    job->archive->work_ended();
    close_unused(job->archive);
    if (blocks_) budget_.set_block_bytes(blocks_->bytes());
    work_.notify_one();
    // Perhaps the last one that has it open: closing it may take the store its time.
    lock.unlock();
    job.reset();
    lock.lock();
  }
}

/// Small reads are bounded in number a second, where a client asked for it.
bool Server::may_read_small(Clock::time_point now) {
  const std::uint32_t rate = budget_.limits().store_rate;
  if (rate == 0) return true;
  const double seconds = std::min(1.0, std::chrono::duration<double>(now - small_at_).count());
  small_at_ = now;
  small_allowed_ = std::min(small_allowed_ + seconds * rate, std::max(1.0, rate / 10.0));
  return small_allowed_ >= 1;
}

std::optional<Server::Job> Server::take_job(std::unique_lock<std::mutex>& lock) {
  while (!stopping_) {
    const auto now = Clock::now();
    // Whoever is waited for comes first, whichever archive it is of; else they take turns. The
    // bound is each archive's: one whose store hangs keeps no other from its own.
    for (const bool demand : {true, false}) {
      auto at = archives_.upper_bound(served_last_);
      for (std::size_t left = archives_.size(); left > 0; --left, ++at) {
        if (at == archives_.end()) at = archives_.begin();
        const auto& [id, archive] = *at;
        if (archive->has_demand() != demand) continue;
        if (archive->working() >= budget_.limits().store_inflight) continue;
        auto work = archive->next(now, may_read_small(now));
        if (!work) continue;
        served_last_ = id;
        if (work->kind == Work::Kind::Range && budget_.limits().store_rate != 0)
          small_allowed_ -= 1;
        return Job{archive, *work,
                   std::chrono::milliseconds(work->once ? 0 : budget_.limits().timeout_ms)};
      }
    }
    make_room();
    work_.wait(lock);
  }
  return std::nullopt;
}

/// Archives without a mount make room for those with one: whole, the oldest first.
void Server::make_room() {
  if (making_room_ || !budget_.is_full() || unopened_.empty() || Clock::now() < make_room_at_)
    return;
  making_room_ = true;
  chores_.emplace_back([this] {
    const bool any = drop_oldest().has_value();
    const std::lock_guard lock(mutex_);
    making_room_ = false;
    if (!any) make_room_at_ = Clock::now() + kNothingToDrop;
    work_.notify_all();
  });
  chore_.notify_one();
}

void Server::run_job(const Job& job, std::span<std::byte> buffer) {
  switch (job.work.kind) {
    case Work::Kind::Unit:
      return fetch_unit(job, buffer);
    case Work::Kind::Range:
      return fetch_range(job, buffer);
    case Work::Kind::Prefetch:
      return prefetch(job, buffer);
    case Work::Kind::Verify:
      return verify(job, buffer);
  }
}

void Server::fetch_unit(const Job& job, std::span<std::byte> buffer) {
  ArchiveCache& archive = *job.archive;
  const Unit unit = job.work.unit;
  const std::uint64_t offset = unit * kUnitBytes;
  const auto bytes = buffer.first(unit_size(unit, archive.facts().size));
  if (const auto room = archive.mirror.reserve(offset, bytes.size()); !room) {
    const std::lock_guard lock(mutex_);
    return archive.no_room(unit, room.error());
  }
  const auto read = archive.store.read(offset, bytes, job.timeout, stopping_);
  reached(Step::MidFetch);
  Result<void> written;
  if (read) written = archive.mirror.write(offset, bytes);
  const ChunkSums sums = read ? chunk_sums(bytes) : ChunkSums{};
  const std::lock_guard lock(mutex_);
  const auto came = read ? Result<ByteSpan>(bytes) : std::unexpected(read.error());
  archive.fetched(unit, came, written, sums);
}

void Server::fetch_range(const Job& job, std::span<std::byte> buffer) {
  ArchiveCache& archive = *job.archive;
  const auto bytes = buffer.first(job.work.length);
  const HotKey key = hot_key(archive.facts().id, job.work.offset, job.work.length);
  BlockStore& hot_ranges = *blocks();  // This archive's OPEN has made them.
  if (const auto hot = job.work.fresh ? std::nullopt : hot_ranges.get(key);
      hot && hot->size() == bytes.size()) {
    const std::lock_guard lock(mutex_);
    return archive.fetched_range(job.work, ByteSpan(*hot), false);
  }
  const auto read = archive.store.read(job.work.offset, bytes, job.timeout, stopping_);
  if (!read && stopping_) return;  // Whoever waits goes on to the next server, or the archive.
  {
    const std::lock_guard lock(mutex_);
    archive.fetched_range(job.work, read ? Result<ByteSpan>(bytes) : std::unexpected(read.error()),
                          true);
  }
  if (job.work.fresh) hot_ranges.drop(key);
  if (read && hot_ranges.wants(key, bytes.size()) && has_room_for_blocks())
    hot_ranges.put(key, bytes);
}

/// Hot ranges too leave others their reserve.
bool Server::has_room_for_blocks() {
  const auto now = file_system_of(directory_.fd(), directory_.path());
  const std::lock_guard lock(mutex_);
  return now && now->free_bytes > budget_.limits().reserve + kUnitBytes;
}

void Server::prefetch(const Job& job, std::span<std::byte> buffer) {
  const auto bytes = buffer.first(job.work.length);
  const auto read = job.archive->store.read(job.work.offset, bytes, job.timeout, stopping_);
  const std::lock_guard lock(mutex_);
  job.archive->prefetched(job.work, read ? Result<ByteSpan>(bytes) : std::unexpected(read.error()));
}

void Server::verify(const Job& job, std::span<std::byte> buffer) {
  ArchiveCache& archive = *job.archive;
  std::vector<Unit> bad;
  for (Unit unit = 0; unit < archive.units() && !stopping_; ++unit) {
    const auto bytes = buffer.first(unit_size(unit, archive.facts().size));
    const auto read = archive.mirror.read(unit * kUnitBytes, bytes);
    const ChunkSums sums = read ? chunk_sums(bytes) : ChunkSums{};
    const std::lock_guard lock(mutex_);
    if (!read || archive.sums(unit) != sums) bad.push_back(unit);
  }
  if (stopping_) return;
  reached(Step::Sealing);
  const std::lock_guard lock(mutex_);
  archive.verified(bad);
}

}  // namespace shardfs
