#include "cache/server/hot_ranges.h"

#include <algorithm>
#include <span>

#include "fs/base/checksum.h"

namespace shardfs {
namespace {

static_assert(sizeof(HotKey) == 32, "a key is hashed as it lies");

/// Slots of a set: one cache line.
constexpr std::size_t kWays = 8;

constexpr std::uint64_t kCountMask = 0xff;
constexpr unsigned kTickShift = 8;
constexpr std::uint64_t kTickMask = 0xffff;

/// Ticks in the time for which a miss is remembered. The 16 bits of a tick come round after 1,024
/// such times; a slot that old which nobody reused is then taken for recent with a chance of 1 in
/// 1,024, and the worst of it is a range let in too early.
constexpr std::uint64_t kTicks = 64;

/// What a slot keeps of a hash. Two ranges of a set that agree in these 40 bits share a count,
/// which may let one in too early.
std::uint64_t tag_of(std::uint64_t hash) { return hash >> 24 << 24; }

}  // namespace

std::size_t HotKeyHash::operator()(const HotKey& key) const {
  return checksum64(std::as_bytes(std::span(&key, 1)));
}

GhostList::GhostList(std::size_t entries, std::uint64_t reach_bytes)
    : reach_(std::max(reach_bytes, kTicks)),
      slots_(std::max<std::size_t>((entries + kWays - 1) / kWays, 1) * kWays) {}

std::vector<std::uint64_t>::iterator GhostList::set_of(std::uint64_t hash) {
  const std::uint64_t set = hash % (slots_.size() / kWays);
  return slots_.begin() + static_cast<std::ptrdiff_t>(set * kWays);
}

std::uint64_t GhostList::tick() const { return missed_ / (reach_ / kTicks) & kTickMask; }

bool GhostList::recent(std::uint64_t slot) const {
  return ((tick() - (slot >> kTickShift)) & kTickMask) < kTicks;
}

unsigned GhostList::count(std::uint64_t hash, std::uint64_t bytes) {
  const auto set = set_of(hash);
  const auto last = set + kWays - 1;
  const auto slot = std::find_if(set, last, [&](auto s) { return tag_of(s) == tag_of(hash); });
  const bool known = tag_of(*slot) == tag_of(hash) && recent(*slot);
  const std::uint64_t before = known ? *slot & kCountMask : 0;
  const std::uint64_t count = std::min(before + 1, kCountMask);
  *slot = tag_of(hash) | tick() << kTickShift | count;
  std::rotate(set, slot, slot + 1);
  missed_ += bytes;
  return static_cast<unsigned>(count);
}

void GhostList::reach_at_least(std::uint64_t bytes) {
  if (bytes <= reach_) return;
  reach_ = bytes;
  std::ranges::fill(slots_, 0);  // Their ticks were of another length.
}

void GhostList::forget(std::uint64_t hash) {
  const auto set = set_of(hash);
  const auto end =
      std::remove_if(set, set + kWays, [&](auto slot) { return tag_of(slot) == tag_of(hash); });
  std::fill(end, set + kWays, 0);
}

HotRanges::HotRanges(std::uint64_t capacity_bytes, std::uint64_t reach_bytes, unsigned misses,
                     std::size_t ghosts)
    : capacity_(capacity_bytes), misses_(misses), ghosts_(ghosts, reach_bytes) {}

bool HotRanges::wants(const HotKey& key, std::uint64_t bytes) {
  if (bytes > capacity_ / 8 || contains(key)) return false;
  const std::uint64_t hash = HotKeyHash()(key);
  if (ghosts_.count(hash, bytes) < misses_) return false;
  ghosts_.forget(hash);
  return true;
}

std::vector<HotKey> HotRanges::insert(const HotKey& key, std::uint64_t bytes) {
  const bool held = erase(key);
  if (bytes > capacity_) return held ? std::vector{key} : std::vector<HotKey>();
  auto gone = shrink_to(capacity_ - bytes);
  order_.push_front({key, bytes});
  index_.emplace(key, order_.begin());
  bytes_ += bytes;
  return gone;
}

bool HotRanges::touch(const HotKey& key) {
  const auto found = index_.find(key);
  if (found == index_.end()) return false;
  order_.splice(order_.begin(), order_, found->second);
  return true;
}

bool HotRanges::erase(const HotKey& key) {
  const auto found = index_.find(key);
  if (found == index_.end()) return false;
  remove(found->second);
  return true;
}

std::vector<HotKey> HotRanges::resize(std::uint64_t capacity_bytes) {
  capacity_ = capacity_bytes;
  return shrink_to(capacity_);
}

void HotRanges::remove(Order::iterator held) {
  bytes_ -= held->bytes;
  index_.erase(held->key);
  order_.erase(held);
}

std::vector<HotKey> HotRanges::shrink_to(std::uint64_t bytes) {
  std::vector<HotKey> gone;
  while (bytes_ > bytes) {
    gone.push_back(order_.back().key);
    remove(std::prev(order_.end()));
  }
  return gone;
}

}  // namespace shardfs
