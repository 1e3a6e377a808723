#include "cuda/lane.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <spdlog/spdlog.h>

#include "fs/base/bytes.h"

namespace shardfs {
namespace {

constexpr std::uint64_t kTableBytes = kMostParts * sizeof(Move);

/// Copies of so many bytes each are made one by one: a copy takes some 2 us to start, in which the
/// bus moves about as much.
constexpr std::uint64_t kDirectCopy = 128 * 1024;

bool are_worth_copies(std::span<const Move> runs) {
  return runs.size() == 1 ||
         std::ranges::all_of(runs, [](const Move& run) { return run.length >= kDirectCopy; });
}

/// Where the part lies in the archive file, if the whole file lies there as it is, in one run.
std::optional<std::uint64_t> stored_at(const Archive& archive, const Item& item, const Part& part) {
  const auto extents = archive.extents(item.inode);
  if (!extents || extents->size() != 1 || !extents->front().stored ||
      extents->front().length != archive.tree().file_size(item.inode))
    return std::nullopt;
  return extents->front().offset + part.offset;
}

}  // namespace

Result<std::unique_ptr<Lane>> Lane::open(Device& device, std::uint64_t staging) {
  std::unique_ptr<Lane> lane(new Lane(device, staging));
  SHARDFS_TRY(const Stream stream, device.create_stream());
  lane->stream_ = {device, stream};
  for (Slot& slot : lane->slots_) {
    SHARDFS_TRY(const PinnedMemory pinned, device.allocate_pinned(staging + kTableBytes));
    slot.pinned = {device, pinned};
    SHARDFS_TRY(const Event event, device.create_event());
    slot.free = {device, event};
  }
  return lane;
}

Lane::~Lane() {
  for (Slot& slot : slots_) {
    if (slot.free) static_cast<void>(device_->wait(*slot.free));
    if (slot.direct) cufile_->release_buffer(slot.direct->address);
  }
}

// Each part is at least kLeastDirect long, and takes up to two pages more than its bytes.
std::uint64_t Lane::direct_bytes() const {
  return staging_ + staging_ / kLeastDirect * 2 * kDirectAlignment;
}

Result<void> Lane::make_device_memory(Slot& slot) {
  if (slot.device) return {};
  SHARDFS_TRY(const DeviceMemory memory, device_->allocate(staging_ + kTableBytes));
  slot.device = {*device_, memory};
  return {};
}

bool Lane::make_direct_memory(const Job& job, Slot& slot) {
  if (slot.direct || slot.refused) return !slot.refused;
  slot.refused = true;
  cufile_ = job.cufile;
  auto memory = device_->allocate(direct_bytes());
  if (!memory) return false;
  OfDevice<DeviceMemory> owner(*device_, *memory);
  if (const auto done = cufile_->register_buffer(memory->address, direct_bytes()); !done) {
    spdlog::info("{}; what would go there is read by the CPU", done.error().message);
    return false;
  }
  slot.direct = std::move(owner);
  slot.refused = false;
  return true;
}

bool Lane::read_direct(const Job& job, Slot& slot, const Part& part, std::uint64_t& used,
                       Move& move) {
  if (job.direct == nullptr || part.length < kLeastDirect) return false;
  const auto offset = stored_at(*job.archive, job.items[part.item], part);
  if (!offset || !make_direct_memory(job, slot)) return false;
  const std::uint64_t head = *offset % kDirectAlignment;
  const std::uint64_t pages = round_up(head + part.length, kDirectAlignment);
  if (used + pages > direct_bytes()) return false;
  if (const auto done =
          job.direct->read(slot.direct->address, head + part.length, *offset - head, used);
      !done) {
    spdlog::info("{}; the CPU reads instead", done.error().message);
    return false;
  }
  move = {slot.direct->address + used + head, part.to, part.length};
  used += pages;
  return true;
}

std::optional<Event> Lane::run(const Job& job,
                               const std::function<void(std::size_t, PartOutcome)>& done) {
  Slot& slot = slots_[next_++ % slots_.size()];
  std::vector<PartOutcome> outcomes(job.parts.size());
  std::vector<Move> staged, direct;
  staged.reserve(job.parts.size());
  std::uint64_t used = 0;
  const auto fail_all = [&](const Error& error) {
    for (PartOutcome& outcome : outcomes) {
      if (!outcome.error) outcome.error = error;
    }
  };
  if (const auto free = device_->wait(*slot.free); !free) {
    fail_all(free.error());
  } else {
    for (std::size_t i = 0; i < job.parts.size(); ++i) {
      const Part& part = job.parts[i];
      if (Move move; read_direct(job, slot, part, used, move)) {
        direct.push_back(move);
        outcomes[i] = {job.direct_route, false, {}};
        continue;
      }
      outcomes[i] = {Route::Pinned, job.has_checksums, {}};
      const std::span<std::byte> out(slot.pinned->data + part.at, part.length);
      const auto got = job.archive->read(job.items[part.item].inode, part.offset, out, nullptr);
      if (!got) {
        outcomes[i].error = got.error();
      } else if (*got != part.length) {
        outcomes[i].error = Error{ErrorKind::Corrupt, 0, "a file is shorter than its size"};
      } else {
        staged.push_back({part.at, part.to, part.length});
      }
    }
    if (const auto sent = send(job, slot, staged, direct); !sent) fail_all(sent.error());
  }
  for (std::size_t i = 0; i < outcomes.size(); ++i) done(i, std::move(outcomes[i]));
  if (staged.empty() && direct.empty()) return std::nullopt;
  return *slot.free;
}

Result<void> Lane::send(const Job& job, Slot& slot, std::span<const Move> staged,
                        std::span<const Move> direct) {
  if (staged.empty() && direct.empty()) return {};
  if (job.after) SHARDFS_CHECK(device_->wait_in(*stream_, *job.after));
  const std::vector<Move> runs = runs_of(job, slot, staged);
  const bool by_copies =
      direct.empty() && (are_worth_copies(runs) || !device_->facts().has_kernels);
  const auto queued = by_copies ? copy(slot, runs) : scatter(slot, runs, direct);
  // Also after a failure: some of it may be on its way.
  const auto recorded = device_->record(*slot.free, *stream_);
  return queued ? recorded : queued;
}

Result<void> Lane::copy(const Slot& slot, std::span<const Move> runs) {
  for (const Move& run : runs)
    SHARDFS_CHECK(device_->copy(*stream_, run.to, slot.pinned->data + run.from, run.length));
  return {};
}

// Runs of bytes that lie one behind the other on both sides. What lies between two files goes with
// them where it may, as zeros.
std::vector<Move> Lane::runs_of(const Job& job, Slot& slot, std::span<const Move> staged) {
  std::vector<Move> runs;
  for (const Move& move : staged) {
    if (!runs.empty()) {
      Move& last = runs.back();
      const std::uint64_t end = last.from + last.length;
      const std::uint64_t gap = move.from - end;
      if (move.to - (last.to + last.length) == gap &&
          (gap == 0 || (job.gaps_are_free && gap < kGap))) {
        std::memset(slot.pinned->data + end, 0, gap);
        last.length += gap + move.length;
        continue;
      }
    }
    runs.push_back(move);
  }
  return runs;
}

Result<void> Lane::scatter(Slot& slot, std::span<const Move> staged, std::span<const Move> direct) {
  SHARDFS_CHECK(make_device_memory(slot));
  std::byte* const table = slot.pinned->data + table_at();
  const DeviceAddress base = slot.device->address;
  std::uint32_t count = 0;
  const auto add = [&](const Move& move) {
    std::memcpy(table + count++ * sizeof move, &move, sizeof move);
  };
  for (const Move& move : staged) add({base + move.from, move.to, move.length});
  for (const Move& move : direct) add(move);
  if (!staged.empty())
    SHARDFS_CHECK(device_->copy(*stream_, base, slot.pinned->data,
                                staged.back().from + staged.back().length));
  SHARDFS_CHECK(device_->copy(*stream_, base + table_at(), table, count * sizeof(Move)));
  return device_->scatter(*stream_, base + table_at(), count);
}

}  // namespace shardfs
