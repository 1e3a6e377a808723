#include "fs/dataset/tier.h"

#include <algorithm>

#include <fmt/format.h>

namespace shardfs {

namespace {

std::string size(std::uint64_t bytes) {
  constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;
  if (bytes < kGiB) return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20));
  return fmt::format("{:.1f} GiB", static_cast<double>(bytes) / kGiB);
}

/// What may be taken of the disk. A file system in memory is charged to the job like any memory.
std::uint64_t disk_room(const CacheFacts& facts) {
  if (!facts.disk) return 0;
  const std::uint64_t free =
      facts.disk->free_bytes - std::min(facts.disk->free_bytes, facts.reserve);
  const std::uint64_t room = std::min(free, facts.cache_limit);
  return facts.disk->in_memory ? std::min(room, facts.memory / kMemoryShare) : room;
}

std::uint64_t memory_room(const CacheFacts& facts) {
  return std::min(facts.memory / kMemoryShare, facts.cache_limit);
}

TierChoice on_disk(const CacheFacts& facts, const TierChoice& room) {
  TierChoice choice = room;
  const bool whole = facts.archive_bytes <= room.disk_bytes;
  choice.tier = whole ? Tier::Disk : Tier::Partial;
  choice.reason = fmt::format(
      "{} of {} fit on {}{}", whole ? "all" : size(room.disk_bytes), size(facts.archive_bytes),
      facts.disk->type, facts.disk->in_memory ? ", which is charged to the job's memory" : "");
  return choice;
}

TierChoice in_memory(const CacheFacts& facts, const TierChoice& room, std::string_view because) {
  TierChoice choice = room;
  choice.tier = Tier::Memory;
  choice.reason = fmt::format("{} of {} of memory available{}",
                              size(std::min(facts.archive_bytes, room.memory_bytes)),
                              size(facts.memory), because);
  return choice;
}

TierChoice in_place(const TierChoice& room, std::string reason) {
  TierChoice choice = room;
  choice.tier = Tier::None;
  choice.reason = std::move(reason);
  return choice;
}

TierChoice as_asked(const CacheFacts& facts, const TierChoice& room) {
  switch (*facts.asked) {
    case Tier::None:
      return in_place(room, "as asked: the archive is read in place");
    case Tier::Memory:
      return in_memory(facts, room, ", as asked");
    case Tier::Disk:
    case Tier::Partial:
      if (!facts.disk)
        return in_place(room, "read in place, for there is no disk: " + facts.why_no_disk);
      return on_disk(facts, room);
  }
  return room;
}

}  // namespace

TierChoice choose(const CacheFacts& facts) {
  TierChoice room;
  room.disk_bytes = disk_room(facts);
  room.memory_bytes = memory_room(facts);
  if (facts.asked) return as_asked(facts, room);
  if (!facts.archive_on.shared)
    return in_place(
        room, fmt::format("the archive is on a local file system ({})", facts.archive_on.type));
  if (facts.same_device) return in_place(room, "the archive is on the cache's own file system");
  if (facts.archive_bytes <= std::min(kMostInMemory, room.memory_bytes))
    return in_memory(facts, room, "");
  if (facts.archive_bytes <= room.disk_bytes || room.disk_bytes >= kLeastPartial)
    return on_disk(facts, room);
  const std::string why =
      facts.disk ? fmt::format("{} of room on {}", size(room.disk_bytes), facts.disk->type)
                 : facts.why_no_disk;
  if (room.memory_bytes >= kLeastPartial) return in_memory(facts, room, "; no disk: " + why);
  return in_place(room, "neither memory nor disk to spare: " + why);
}

}  // namespace shardfs
