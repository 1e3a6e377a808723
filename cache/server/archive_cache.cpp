#include "cache/server/archive_cache.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <random>
#include <utility>

#include <spdlog/spdlog.h>

#include "fs/base/bytes.h"
#include "fs/base/memory.h"

namespace shardfs {

namespace {

using std::chrono::milliseconds;

/// Before the mirror is read again to be sealed: nobody waits for that, and the readers of a first
/// epoch need the processor.
constexpr milliseconds kVerifyAfter{2000};
/// The mount begins with its index, in one or two units. As long as it may be at that, what is
/// staged is one unit at a time, lest the index get a small share of the store's bandwidth.
constexpr milliseconds kIndexFirst{30};
/// How long staging waits for hints that were announced: a client makes its mount ready meanwhile.
constexpr milliseconds kHintsWithin{10'000};
/// How long the rest of a list that was cut into several requests is waited for.
constexpr milliseconds kRestWithin{1000};
/// Before staging goes on that has found no room, or has failed; then ever later.
constexpr milliseconds kStageAgain{1000};
constexpr milliseconds kStageLatest{60'000};
/// How often the clients' counts of touches are looked at.
constexpr milliseconds kCollectEvery{100};
/// How long the files of a unit that cannot be read whole are read one by one, before it is tried
/// again.
constexpr milliseconds kByRanges{10'000};
/// Small reads are for whole pages: the store's own page cache works in those.
constexpr std::uint64_t kSmall = 4096;
/// A unit that was damaged so often is damaged in the archive: it is left as it is.
constexpr std::uint8_t kMostDistrust = 2;
/// Memory for hinted ranges that are ahead of their readers. The least has room for some 800 files
/// of 20 KB: enough to have eight requests of 3 ms on their way while one reader takes 20,000 files
/// a second.
constexpr std::uint64_t kHintsShare = 8, kLeastHints = 16 << 20, kMostHints = 512 << 20;
/// Hinted units that are made ready before others are looked at.
constexpr std::size_t kHintedAhead = 16;

milliseconds jitter(std::uint32_t most_ms) {
  std::random_device random;
  return milliseconds(most_ms == 0 ? 0 : random() % most_ms);
}

}  // namespace

ArchiveCache::ArchiveCache(UniqueFd store_fd, std::string path, const ArchiveFacts& facts,
                           Tier tier, Mirror its_mirror, UnitMap its_map, SumMap its_sums,
                           TouchMap its_touches, Budget& budget, Ledger& ledger)
    : store(std::move(store_fd), std::move(path), facts),
      mirror(std::move(its_mirror)),
      map(std::move(its_map)),
      sum_map(std::move(its_sums)),
      touches(std::move(its_touches)),
      asked_(tier),
      budget_(budget),
      ledger_(ledger),
      admission_(static_cast<Unit>(units_of(facts.size)), facts.size),
      hints_(std::clamp(available_memory() / kHintsShare, kLeastHints, kMostHints)),
      states_(units_of(facts.size), State::Absent),
      has_sums_(states_.size()),
      distrusted_(states_.size()),
      store_pause_(kStageAgain) {}

/// It is in the mirror, from an earlier server. Returns its bytes.
std::uint64_t ArchiveCache::add_found(Unit unit) {
  if (states_[unit] != State::Absent) return 0;
  states_[unit] = State::Present;
  ++present_;
  map.set(unit, true);
  admission_.kept(unit);
  return size_of(unit);
}

std::uint64_t ArchiveCache::add_known(std::span<const UnitRecord> known) {
  std::uint64_t bytes = 0;
  for (const UnitRecord& record : known) {
    if (record.unit >= units() || mirror.is_new() || states_[record.unit] != State::Absent)
      continue;
    sum_map.set(record.unit, record.sums);
    has_sums_[record.unit] = true;
    bytes += add_found(record.unit);
  }
  for (Unit unit = 0; mirror.is_sealed() && unit < units(); ++unit) bytes += add_found(unit);
  return bytes;
}

void ArchiveCache::drop_unknown() {
  if (mirror.is_sealed() || mirror.is_new()) return;
  for (Unit unit = 0; unit < units();) {
    Unit end = unit;
    while (end < units() && states_[end] == State::Absent) ++end;
    if (end > unit) mirror.drop(unit, end - unit);
    unit = end + 1;
  }
}

void ArchiveCache::opened(const CacheLimits& limits, bool hints_follow) {
  if (clients_++ > 0) return;
  const auto now = Clock::now();
  stage_after_ = now + jitter(limits.jitter_ms);
  one_by_one_until_ = now + kIndexFirst;
  if (hints_follow) hints_until_ = now + kHintsWithin;
}

// ---- what clients ask ----

void ArchiveCache::want(Waiter waiter, bool distrusted) {
  if (waiter.length == 0 || waiter.length > kBufferBytes || waiter.offset >= facts().size ||
      waiter.length > facts().size - waiter.offset ||
      unit_at(waiter.offset) != unit_at(waiter.offset + waiter.length - 1)) {
    return waiter.to->send_error({ErrorKind::Invalid, 0, "cache: a range that is none"});
  }
  const Unit unit = unit_at(waiter.offset);
  waiter.to->queued = false;
  if (distrusted) {
    distrust(unit);
    return want_range(std::move(waiter), How::Fresh);
  }
  if (states_[unit] == State::Present) return waiter.to->send(Message::Local);
  if (states_[unit] == State::Absent) {
    const auto hinted = hints_.find(waiter.offset, waiter.length,
                                    [&](ByteSpan bytes) { waiter.to->send_bytes(bytes); });
    if (hinted == Hints::Outcome::Here) return;
    if (hinted == Hints::Outcome::Planned || hinted == Hints::Outcome::Coming) {
      waiter.to->queued = hinted == Hints::Outcome::Planned;
      Asked& asked = ranges_[{waiter.offset, waiter.length}];
      awaited_ += asked.awaited ? 0 : 1;
      asked.awaited = true;
      asked.waiters.push_back(std::move(waiter));
      return;
    }
    if (is_failing(unit)) return want_range(std::move(waiter), How::Once);
    if (!admit(unit)) return want_range(std::move(waiter));
    queue(unit);
  }
  waiter.to->queued = states_[unit] == State::Queued;
  if (states_[unit] == State::Queued) demand_.push_back(unit);
  waiting_[unit].push_back(std::move(waiter));
}

void ArchiveCache::hint(std::span<const HintRange> ranges, std::uint32_t flags) {
  std::vector<HintRange> real;
  std::ranges::copy_if(ranges, std::back_inserter(real), [&](const HintRange& range) {
    return range.length > 0 && range.offset < facts().size &&
           range.length <= facts().size - range.offset;
  });
  hints_.add(real, (flags & HintRequest::kReplace) != 0);
  hints_until_ = {};
  rest_of_hints_until_ =
      (flags & HintRequest::kMore) != 0 ? Clock::now() + kRestWithin : Clock::time_point{};
}

/// It could not be read whole a little while ago.
bool ArchiveCache::is_failing(Unit unit) {
  const auto at = failed_.find(unit);
  if (at == failed_.end() || Clock::now() < at->second) return at != failed_.end();
  failed_.erase(at);
  return false;
}

/// The mirror can take the unit, room apart.
bool ArchiveCache::may_hold(Unit unit) const {
  return !mirror.is_sealed() && distrusted_[unit] <= kMostDistrust;
}

/// Takes room for a unit, if need be that of another one that is read less.
bool ArchiveCache::admit(Unit unit) {
  if (!may_hold(unit)) return false;
  if (budget_.take(size_of(unit), mirror.is_in_memory())) return true;
  full_ = true;
  collect_touches();
  const auto victim = admission_.victim_for(unit);
  if (!victim || states_[*victim] != State::Present) return false;
  // The short last unit makes no room for another, and is read less only because it is short.
  if (size_of(*victim) < size_of(unit)) return false;
  evict(*victim);
  return budget_.take(size_of(unit), mirror.is_in_memory());
}

void ArchiveCache::queue(Unit unit) { states_[unit] = State::Queued; }

// Clients may be reading it: they will see that the bytes are not what they should be.
void ArchiveCache::evict(Unit unit) {
  map.set(unit, false);
  states_[unit] = State::Absent;
  has_sums_[unit] = false;
  --present_;
  admission_.dropped(unit);
  mirror.drop(unit);
  if (!mirror.is_in_memory()) ledger_.note_dropped(facts().id, unit);
  budget_.give_back(size_of(unit), mirror.is_in_memory());
}

std::uint64_t ArchiveCache::give_up_unit() {
  if (mirror.is_in_memory()) return 0;
  collect_touches();
  const auto victim = admission_.victim_for_space();
  if (!victim || states_[*victim] != State::Present) return 0;
  if (const auto done = mirror.unseal(); !done) {
    if (disk_lines_.now()) spdlog::warn("{}", done.error().message);
    return 0;
  }
  if (!full_) spdlog::info("{}: gives room back to others", store.path());
  full_ = true;
  stage_after_ = std::max(stage_after_, Clock::now() + kStageAgain);
  cursor_ = std::min(cursor_, *victim);
  evict(*victim);
  return size_of(*victim);
}

void ArchiveCache::distrust(Unit unit) {
  if (states_[unit] != State::Present) return;
  if (distrusted_[unit] > kMostDistrust) return;
  const bool again = ++distrusted_[unit] <= kMostDistrust;
  if (damage_lines_.now())
    spdlog::warn("{}: what was cached of unit {} of {} is damaged{}", store.path(), unit, units(),
                 again ? "; fetching it again" : " again and again; left as it is");
  if (!again) return;
  if (const auto done = mirror.unseal(); !done) {
    if (disk_lines_.now()) spdlog::warn("{}", done.error().message);
    distrusted_[unit] = kMostDistrust + 1;
    return;
  }
  evict(unit);
  if (admit(unit)) {
    queue(unit);
    demand_.push_back(unit);
  }
}

/// Past the mirror: just these bytes, in whole pages.
void ArchiveCache::want_range(Waiter waiter, How how) {
  const std::uint64_t begin = waiter.offset / kSmall * kSmall;
  const std::uint64_t end = std::min(round_up(waiter.offset + waiter.length, kSmall), facts().size);
  const Range range{begin, end - begin, how == How::Fresh};
  Asked& asked = ranges_[range];
  if (asked.waiters.empty()) {
    asked.due = true;
    ranges_due_.push_back(range);
  }
  asked.once = asked.once || how == How::Once;
  waiter.to->queued = asked.due;
  asked.waiters.push_back(std::move(waiter));
}

/// Of a range that has come, or is given up.
std::vector<Waiter> ArchiveCache::take_waiters(const Range& range) {
  auto asked = ranges_.extract(range);
  if (asked.empty()) return {};
  awaited_ -= asked.mapped().awaited ? 1 : 0;
  return std::move(asked.mapped().waiters);
}

// ---- what is to be done ----

std::optional<Unit> ArchiveCache::first_queued(std::deque<Unit>& list) {
  while (!list.empty()) {
    const Unit unit = list.front();
    list.pop_front();
    if (states_[unit] != State::Queued) continue;  // Another list had it first.
    states_[unit] = State::Fetching;
    return unit;
  }
  return std::nullopt;
}

/// It is their turn.
void ArchiveCache::note_begun(const std::vector<Waiter>& waiters) {
  for (const Waiter& waiter : waiters) waiter.to->queued = false;
}

/// The next range that somebody still waits for.
std::optional<Work> ArchiveCache::next_range() {
  while (!ranges_due_.empty()) {
    const Range range = ranges_due_.front();
    ranges_due_.pop_front();
    const auto at = ranges_.find(range);
    if (at == ranges_.end() || !at->second.due) continue;  // It came another way.
    Asked& asked = at->second;
    if (std::ranges::none_of(asked.waiters, [](const Waiter& w) { return w.to->is_open(); })) {
      (void)take_waiters(range);
      continue;
    }
    asked.due = false;
    note_begun(asked.waiters);
    return Work{Work::Kind::Range, unit_at(range.offset), range.offset,
                range.length,      range.fresh,           asked.once};
  }
  return std::nullopt;
}

std::optional<Work> ArchiveCache::next(Clock::time_point now, bool small) {
  if (const auto unit = first_queued(demand_)) {
    if (const auto waiters = waiting_.find(*unit); waiters != waiting_.end())
      note_begun(waiters->second);
    return Work{Work::Kind::Unit, *unit};
  }
  if (small) {
    if (auto work = next_range()) return work;
  }
  if (clients_ == 0) return std::nullopt;
  if (auto work = prefetch(now)) return work;
  if (now < std::max(stage_after_, hints_until_)) return std::nullopt;
  if (now < one_by_one_until_ && working_ > 0) return std::nullopt;
  if (auto work = stage()) return work;
  if (verifying_ || !is_verifiable() || now < verify_after_) return std::nullopt;
  verifying_ = true;
  return Work{Work::Kind::Verify};
}

/// Whether a hinted range is in the mirror or on its way there; there it goes if there is room.
bool ArchiveCache::is_coming(const HintRange& range) {
  bool all = true;
  const Unit last = unit_at(range.offset + range.length - 1);
  for (Unit unit = unit_at(range.offset); unit <= last; ++unit) {
    if (states_[unit] == State::Queued || states_[unit] == State::Fetching)
      hinted_now_.insert(unit);
    if (states_[unit] != State::Absent) continue;
    const bool room = may_hold(unit) && budget_.take(size_of(unit), mirror.is_in_memory());
    if (room) {
      queue(unit);
      hinted_.push_back(unit);
      hinted_now_.insert(unit);
    }
    all = all && room;
  }
  return all;
}

/// Where a hinted range is that somebody waits for already, and whose turn it is not yet.
std::optional<std::uint64_t> ArchiveCache::first_awaited() const {
  if (awaited_ == 0) return std::nullopt;
  const auto first = std::ranges::find_if(ranges_, [](const auto& one) {
    return one.second.awaited && one.second.waiters.front().to->queued;
  });
  return first != ranges_.end() ? std::optional(first->first.offset) : std::nullopt;
}

std::optional<Work> ArchiveCache::prefetch(Clock::time_point now) {
  if (const auto unit = first_queued(hinted_)) return Work{Work::Kind::Unit, *unit};
  if (hints_.is_empty() || hinted_.size() > kHintedAhead) return std::nullopt;
  // Of a part alone, less lies close together.
  if (now < rest_of_hints_until_ && !hints_.has_plenty() && awaited_ == 0) return std::nullopt;
  const auto fetch = hints_.next([&](const HintRange& range) { return is_coming(range); },
                                 [&] { return hinted_.size() <= kHintedAhead; }, first_awaited());
  if (fetch) {
    const std::uint64_t end = fetch->offset + fetch->length;
    for (auto at = ranges_.lower_bound({fetch->offset});
         at != ranges_.end() && at->first.offset < end; ++at)
      if (at->second.awaited) note_begun(at->second.waiters);
    return Work{Work::Kind::Prefetch, 0, fetch->offset, fetch->length};
  }
  if (const auto unit = first_queued(hinted_)) return Work{Work::Kind::Unit, *unit};
  return std::nullopt;
}

/// Moves the cursor to a unit that is to be staged; false if there is none, now.
bool ArchiveCache::find_unstaged() {
  while (true) {
    while (cursor_ < units() &&
           (states_[cursor_] != State::Absent || is_failing(cursor_) || !may_hold(cursor_)))
      ++cursor_;
    if (cursor_ < units()) return true;
    // What failed is tried again when all the rest is there.
    const auto is_over = [now = Clock::now()](const auto& f) { return f.second <= now; };
    const auto again = std::ranges::find_if(failed_, is_over);
    if (again == failed_.end()) return false;
    cursor_ = again->first;
    failed_.erase(again);
  }
}

std::optional<Work> ArchiveCache::stage() {
  if (mirror.is_sealed() || !find_unstaged()) return std::nullopt;
  if (!budget_.take(size_of(cursor_), mirror.is_in_memory())) {
    if (!full_) spdlog::info("{}: {} of {} units fit", store.path(), present_, units());
    full_ = true;
    stage_after_ = Clock::now() + kStageAgain;
    return std::nullopt;
  }
  states_[cursor_] = State::Fetching;
  return Work{Work::Kind::Unit, cursor_};
}

// ---- what was done ----

void ArchiveCache::answer(const std::vector<Waiter>& waiters, std::uint64_t from,
                          const Result<ByteSpan>& bytes) {
  for (const Waiter& waiter : waiters) {
    if (!bytes) {
      waiter.to->send_error(bytes.error());
    } else {
      waiter.to->send_bytes(bytes->subspan(waiter.offset - from, waiter.length));
    }
  }
}

void ArchiveCache::fetched(Unit unit, const Result<ByteSpan>& bytes, const Result<void>& written,
                           const ChunkSums& sums) {
  note_store(bytes);
  const bool hinted = hinted_now_.erase(unit) > 0;
  if (bytes && written) {
    states_[unit] = State::Present;
    budget_.note_written();
    budget_.landed(size_of(unit), mirror.is_in_memory());
    if (++present_ == units()) full_ = false;
    sum_map.set(unit, sums);
    has_sums_[unit] = true;
    map.set(unit, true);
    if (!mirror.is_in_memory()) ledger_.note_present(facts().id, {unit, sums});
    admission_.kept(unit);
    verify_after_ = Clock::now() + kVerifyAfter;
    auto waiting = waiting_.extract(unit);
    if (waiting.empty()) return;
    for (const Waiter& waiter : waiting.mapped()) waiter.to->send(Message::Local);
    return;
  }
  if (!written) note_disk(written.error());
  auto waiting = leave_absent(unit);
  if (!bytes && hinted) failed_hints_ += size_of(unit);
  const bool one_place = !bytes && bytes.error().kind == ErrorKind::Io;
  if (!one_place) return answer(waiting, unit * kUnitBytes, bytes);
  // One bad place in a unit is not to fail all files around it.
  failed_[unit] = Clock::now() + kByRanges;
  for (Waiter& waiter : waiting) want_range(std::move(waiter), How::Once);
}

void ArchiveCache::no_room(Unit unit, const Error& error) {
  hinted_now_.erase(unit);
  note_disk(error);
  for (Waiter& waiter : leave_absent(unit)) want_range(std::move(waiter));
}

/// Of a unit that was to come; returns who waits for it.
std::vector<Waiter> ArchiveCache::leave_absent(Unit unit) {
  states_[unit] = State::Absent;
  budget_.landed(size_of(unit), mirror.is_in_memory());
  budget_.give_back(size_of(unit), mirror.is_in_memory());
  mirror.drop(unit);
  cursor_ = std::min(cursor_, unit);
  auto waiting = waiting_.extract(unit);
  return waiting.empty() ? std::vector<Waiter>() : std::move(waiting.mapped());
}

/// A store that fails is staged from ever more seldom, until it does not.
void ArchiveCache::note_store(const Result<ByteSpan>& bytes) {
  const auto now = Clock::now();
  if (bytes) {
    gave_ = now;
    if (std::exchange(store_fails_, false)) stage_after_ = now;
    store_pause_ = kStageAgain;
    return;
  }
  store_fails_ = true;
  if (store_lines_.now()) spdlog::warn("{}", bytes.error().message);
  if (now < stage_after_) return;  // Another fetch that was under way.
  stage_after_ = now + store_pause_;
  store_pause_ = std::min(store_pause_ * 2, kStageLatest);
}

void ArchiveCache::note_disk(const Error& error) {
  if (disk_lines_.now()) spdlog::warn("{}; going on without more of it on the disk", error.message);
  budget_.note_full();
  full_ = true;
  stage_after_ = std::max(stage_after_, Clock::now() + kStageAgain);
}

void ArchiveCache::fetched_range(const Work& work, const Result<ByteSpan>& bytes, bool from_store) {
  if (from_store) note_store(bytes);
  answer(take_waiters({work.offset, work.length, work.fresh}), work.offset, bytes);
}

// Those who asked meanwhile are answered; if it failed, each of them by a request of its own.
void ArchiveCache::prefetched(const Work& work, const Result<ByteSpan>& bytes) {
  note_store(bytes);
  hints_.fetched({work.offset, work.length},
                 bytes ? std::optional<ByteSpan>(*bytes) : std::nullopt);
  if (!bytes) failed_hints_ += work.length;
  const std::uint64_t end = work.offset + work.length;
  std::vector<Range> come;
  for (auto at = ranges_.lower_bound({work.offset}); at != ranges_.end(); ++at) {
    const auto& [range, asked] = *at;
    if (range.offset >= end) break;
    if (!asked.due && !range.fresh && range.offset + range.length <= end) come.push_back(range);
  }
  for (const Range& range : come) {
    for (Waiter& waiter : take_waiters(range)) {
      const auto here = hints_.find(waiter.offset, waiter.length,
                                    [&](ByteSpan held) { waiter.to->send_bytes(held); });
      if (here != Hints::Outcome::Here) want_range(std::move(waiter));
    }
  }
}

bool ArchiveCache::is_verifiable() const {
  return present_ == units() && units() > 0 && !mirror.is_in_memory() && !mirror.is_sealed() &&
         std::ranges::all_of(has_sums_, std::identity());
}

void ArchiveCache::verified(std::span<const Unit> bad) {
  verifying_ = false;
  for (const Unit unit : bad) distrust(unit);
  verify_after_ = Clock::time_point::max();  // Until something new has come: it would end the same.
  if (!bad.empty() || !is_verifiable()) return;
  if (const auto done = mirror.seal(); done) {
    spdlog::info("{}: all of it is in the cache", store.path());
  } else {
    spdlog::warn("{}", done.error().message);
  }
}

// ---- figures ----

void ArchiveCache::collect_touches() {
  const auto now = Clock::now();
  if (now - collected_ < kCollectEvery) return;
  collected_ = now;
  for (Unit unit = 0; unit < units(); ++unit) {
    const auto touched = touches.take(unit);
    if (touched.bytes > 0) admission_.touch(unit, touched.reads, touched.bytes);
  }
}

std::uint64_t ArchiveCache::present_bytes() const {
  std::uint64_t bytes = present_ * kUnitBytes;
  if (units() > 0 && states_.back() == State::Present) bytes -= kUnitBytes - size_of(units() - 1);
  return bytes;
}

std::uint64_t ArchiveCache::taken_bytes() const {
  std::uint64_t bytes = 0;
  for (Unit unit = 0; unit < units(); ++unit)
    if (states_[unit] != State::Absent) bytes += size_of(unit);
  return bytes;
}

std::uint64_t ArchiveCache::hinted_bytes() const {
  return hints_.due_bytes() + hinted_now_.size() * kUnitBytes;
}

Tier ArchiveCache::tier() const {
  const bool lowered = full_ && present_ < units() && asked_ == Tier::Disk;
  return lowered ? Tier::Partial : asked_;
}

std::string_view ArchiveCache::state() const {
  if (mirror.is_sealed()) return "sealed";
  if (present_ == units()) return "complete";
  return full_ ? "full" : "staging";
}

}  // namespace shardfs
