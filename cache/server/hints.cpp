#include "cache/server/hints.h"

#include <algorithm>
#include <iterator>

namespace shardfs {

void Hints::add(std::span<const HintRange> ranges, bool replace) {
  if (replace) {
    listed_.clear();
    listed_bytes_ = 0;
    drop_before(turns_);
  }
  for (const HintRange& range : ranges) {
    listed_.push_back(range);
    listed_bytes_ += range.length;
  }
}

/// Takes ranges from the list while there is room, and joins those that lie close together.
void Hints::plan(const std::function<bool(const HintRange&)>& is_cached,
                 const std::function<bool()>& goes_on) {
  std::map<std::uint64_t, std::uint64_t> added;
  while (!listed_.empty() && ahead_ < room_ && held_.size() < kMostRanges && goes_on()) {
    // A long range is held in pieces that end where units do, because no read goes beyond one.
    HintRange& first = listed_.front();
    const std::uint64_t piece = std::min(first.length, kRequest - first.offset % kRequest);
    const HintRange range{first.offset, piece};
    first = {first.offset + piece, first.length - piece};
    listed_bytes_ -= piece;
    if (first.length == 0) listed_.pop_front();
    const std::uint64_t turn = turns_++;
    if (is_cached(range) || held_.contains(range.offset)) continue;
    held_[range.offset] = {.length = range.length, .turn = turn};
    order_.emplace_back(turn, range.offset);
    ahead_ += range.length;
    added[range.offset] = range.length;
  }
  for (const auto& [offset, length] : added) {
    const std::uint64_t end = offset + length;
    if (!planned_.empty()) {
      auto& [begin, size] = *std::prev(planned_.end());
      const bool close = offset >= begin && offset <= begin + size + kGap;
      if (close && std::max(end, begin + size) - begin <= kRequest) {
        size = std::max(end, begin + size) - begin;
        continue;
      }
    }
    planned_[offset] = length;
  }
}

std::optional<Hints::Fetch> Hints::next(const std::function<bool(const HintRange&)>& is_cached,
                                        const std::function<bool()>& goes_on,
                                        std::optional<std::uint64_t> first) {
  // A good part of the room is filled at once, so that there is something to join.
  if (planned_.empty() && has_room()) plan(is_cached, goes_on);
  if (planned_.empty()) return std::nullopt;
  auto chosen = planned_.begin();
  if (auto after = planned_.upper_bound(first.value_or(0)); after != planned_.begin()) {
    const auto before = std::prev(after);
    if (before->first + before->second > first.value_or(0)) chosen = before;
  }
  const auto [offset, length] = *chosen;
  planned_.erase(chosen);
  for (auto at = held_.lower_bound(offset); at != held_.end() && at->first < offset + length; ++at)
    at->second.begun = true;
  return Fetch{offset, length};
}

void Hints::fetched(const Fetch& fetch, std::optional<ByteSpan> bytes) {
  const std::uint64_t end = fetch.offset + fetch.length;
  for (auto at = held_.lower_bound(fetch.offset); at != held_.end() && at->first < end;) {
    auto& [offset, held] = *at;
    // What lies only partly in this request, of a list that overlaps, lies whole in another.
    if (held.here || offset + held.length > end) {
      ++at;
    } else if (!bytes || held.turn < passed_) {
      ahead_ -= held.length;
      at = held_.erase(at);
    } else {
      const ByteSpan its = bytes->subspan(offset - fetch.offset, held.length);
      held.bytes.assign(its.begin(), its.end());
      held.here = true;
      ++at;
    }
  }
}

Hints::Outcome Hints::find(std::uint64_t offset, std::uint64_t length,
                           const std::function<void(ByteSpan)>& use) {
  auto at = held_.upper_bound(offset);
  if (at == held_.begin()) return Outcome::Unknown;
  --at;
  Held& held = at->second;
  const std::uint64_t skip = offset - at->first;
  if (skip > held.length || length > held.length - skip) return Outcome::Unknown;
  if (!held.here) return held.begun ? Outcome::Coming : Outcome::Planned;
  use(ByteSpan(held.bytes).subspan(skip, length));
  const std::uint64_t turn = held.turn;
  if (skip + length == held.length) {
    ahead_ -= held.length;
    held_.erase(at);
  }
  // Readers do not keep the list's order to the letter, but what lies far behind will not be asked
  // for any more.
  constexpr std::uint64_t kSlack = 1024;
  if (turn > kSlack) drop_before(turn - kSlack);
  return Outcome::Here;
}

std::uint64_t Hints::due_bytes() const {
  std::uint64_t bytes = has_room() ? listed_bytes_ : 0;
  for (const auto& [offset, held] : held_) bytes += held.here ? 0 : held.length;
  return bytes;
}

/// What is on its way goes when it comes.
void Hints::drop_before(std::uint64_t turn) {
  passed_ = std::max(passed_, turn);
  for (; !order_.empty() && order_.front().first < turn; order_.pop_front()) {
    const auto [its_turn, offset] = order_.front();
    const auto at = held_.find(offset);
    if (at == held_.end() || at->second.turn != its_turn || !at->second.here) continue;
    ahead_ -= at->second.length;
    held_.erase(at);
  }
}

}  // namespace shardfs
