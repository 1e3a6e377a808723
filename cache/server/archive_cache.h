// What a cache server knows and keeps of one archive.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "cache/common/protocol.h"
#include "cache/common/shared_arrays.h"
#include "cache/common/units.h"
#include "cache/server/admission.h"
#include "cache/server/budget.h"
#include "cache/server/connection.h"
#include "cache/server/hints.h"
#include "cache/server/ledger.h"
#include "cache/server/mirror.h"
#include "cache/server/rarely.h"
#include "cache/server/store_file.h"

namespace shardfs {

/// Something to be fetched from the store, or checked.
struct Work {
  enum class Kind : std::uint8_t {
    Unit,      ///< into the mirror
    Range,     ///< for those who wait for it, past the mirror
    Prefetch,  ///< hinted ranges that lie together, for those who will ask
    Verify     ///< the whole mirror, then it is sealed
  };
  Kind kind = Kind::Unit;
  Unit unit = 0;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  bool fresh = false;  ///< from the store itself, because what was kept is damaged
  bool once = false;   ///< not tried again: its unit has been, for as long as is allowed
};

/// The units of one archive, who waits for which, and what is to be fetched next. No I/O but that
/// of answers; everything is called under the server's lock, except that the mirror is written to
/// and the store is read without it.
class ArchiveCache {
 public:
  using Clock = std::chrono::steady_clock;

  ArchiveCache(UniqueFd store, std::string path, const ArchiveFacts& facts, Tier tier,
               Mirror mirror, UnitMap map, SumMap sums, TouchMap touches, Budget& budget,
               Ledger& ledger);

  [[nodiscard]] const ArchiveFacts& facts() const { return store.facts(); }
  [[nodiscard]] Unit units() const { return static_cast<Unit>(states_.size()); }

  /// What the ledger says is in the mirror, all of it, soon after the beginning; until then nothing
  /// is. Returns the bytes that are.
  [[nodiscard]] std::uint64_t add_known(std::span<const UnitRecord> known);
  /// What the ledger does not know of, because that was lost or a fetch was cut off, takes no room.
  void drop_unknown();
  /// Gives back the room of a unit on the disk that is read less than others; returns its bytes, 0
  /// if there is none.
  [[nodiscard]] std::uint64_t give_up_unit();

  /// Answers, or makes `waiter` wait.
  void want(Waiter waiter, bool distrust);
  /// Ranges that are none are left out. `flags`: of HintRequest.
  void hint(std::span<const HintRange> ranges, std::uint32_t flags);

  /// What is most urgent, if anything is to be done now: what somebody waits for before what was
  /// hinted, that before the rest of the archive in order.
  /// Ranges past the mirror only if `small`.
  [[nodiscard]] std::optional<Work> next(Clock::time_point now, bool small);
  /// Ranges past the mirror are to be read.
  [[nodiscard]] bool has_ranges_due() const { return !ranges_due_.empty(); }
  /// When the store last gave something.
  [[nodiscard]] Clock::time_point gave() const { return gave_; }
  [[nodiscard]] bool has_demand() const {
    return !demand_.empty() || !ranges_due_.empty() || awaited_ > 0;
  }

  /// The end of a unit's fetch: its bytes as they came, whether they are in the mirror, and their
  /// checksums.
  void fetched(Unit unit, const Result<ByteSpan>& bytes, const Result<void>& written,
               const ChunkSums& sums);
  /// The disk has no room for it, or cannot be written: nothing was fetched.
  void no_room(Unit unit, const Error& error);
  /// `from_store`: and not from the hot ranges.
  void fetched_range(const Work& work, const Result<ByteSpan>& bytes, bool from_store);
  void prefetched(const Work& work, const Result<ByteSpan>& bytes);
  void verified(std::span<const Unit> bad);

  /// Clients that have it open. Without one nothing more is fetched.
  void opened(const CacheLimits& limits, bool hints_follow);
  void closed() { --clients_; }
  [[nodiscard]] unsigned clients() const { return clients_; }

  [[nodiscard]] std::uint64_t present_bytes() const;
  /// Of the budget: what is in the mirror, and what is to come there.
  [[nodiscard]] std::uint64_t taken_bytes() const;
  /// Something is being fetched or checked.
  [[nodiscard]] bool is_at_work() const { return working_ > 0; }
  /// Threads that are, most of them with a request to the store.
  [[nodiscard]] unsigned working() const { return working_; }
  void work_began() { ++working_; }
  void work_ended() { --working_; }
  /// Hinted, and not yet fetched.
  [[nodiscard]] std::uint64_t hinted_bytes() const;
  /// Hinted, and not fetched because the store failed, so far.
  [[nodiscard]] std::uint64_t failed_hint_bytes() const { return failed_hints_; }
  [[nodiscard]] Tier tier() const;
  [[nodiscard]] std::string_view state() const;
  /// Checksums of a present unit, as fetched; nothing for one whose record is lost.
  [[nodiscard]] std::optional<ChunkSums> sums(Unit unit) const {
    return has_sums_[unit] ? std::optional(sum_map.all_of(unit)) : std::nullopt;
  }
  [[nodiscard]] bool is_verifiable() const;

  StoreFile store;
  Mirror mirror;
  UnitMap map;
  SumMap sum_map;
  TouchMap touches;

 private:
  enum class State : std::uint8_t { Absent, Queued, Fetching, Present };
  /// Bytes past the mirror.
  struct Range {
    std::uint64_t offset = 0, length = 0;
    bool fresh = false;  ///< from the store itself, because what was kept is damaged
    auto operator<=>(const Range&) const = default;
  };
  /// Who waits for a range, and how it comes.
  struct Asked {
    std::vector<Waiter> waiters;
    bool due = false;      ///< in ranges_due_, not yet being fetched
    bool once = false;     ///< not tried again
    bool awaited = false;  ///< because of a hint
  };

  [[nodiscard]] std::uint64_t size_of(Unit unit) const { return unit_size(unit, facts().size); }
  [[nodiscard]] bool may_hold(Unit unit) const;
  std::uint64_t add_found(Unit unit);
  [[nodiscard]] bool admit(Unit unit);
  [[nodiscard]] bool is_failing(Unit unit);
  [[nodiscard]] bool is_coming(const HintRange& range);
  [[nodiscard]] std::optional<Unit> first_queued(std::deque<Unit>& units);
  static void note_begun(const std::vector<Waiter>& waiters);
  [[nodiscard]] std::optional<Work> next_range();
  void answer(const std::vector<Waiter>& waiters, std::uint64_t from,
              const Result<ByteSpan>& bytes);
  void queue(Unit unit);
  void evict(Unit unit);
  void distrust(Unit unit);
  enum class How : std::uint8_t { Plain, Fresh, Once };
  void want_range(Waiter waiter, How how = How::Plain);
  [[nodiscard]] std::vector<Waiter> take_waiters(const Range& range);
  [[nodiscard]] std::vector<Waiter> leave_absent(Unit unit);
  void note_store(const Result<ByteSpan>& bytes);
  void note_disk(const Error& error);
  [[nodiscard]] bool find_unstaged();
  [[nodiscard]] std::optional<Work> stage();
  [[nodiscard]] std::optional<std::uint64_t> first_awaited() const;
  [[nodiscard]] std::optional<Work> prefetch(Clock::time_point now);
  void collect_touches();

  const Tier asked_;
  Budget& budget_;
  Ledger& ledger_;
  Admission admission_;
  Hints hints_;
  std::vector<State> states_;
  std::vector<bool> has_sums_;
  std::vector<std::uint8_t> distrusted_;  ///< times a unit was found damaged; saturates
  std::map<Unit, std::vector<Waiter>> waiting_;
  std::map<Range, Asked> ranges_;  ///< being fetched, or about to be
  std::deque<Unit> demand_;
  std::deque<Range> ranges_due_;
  std::size_t awaited_ = 0;                   ///< of ranges_, those that are
  std::map<Unit, Clock::time_point> failed_;  ///< units that cannot be read whole, until then
  std::set<Unit> hinted_now_;                 ///< hinted, and on their way
  std::deque<Unit> hinted_;                   ///< to be fetched because a hint said so
  Unit cursor_ = 0;                           ///< all before it are staged, or cannot be
  Unit present_ = 0;                          ///< units in the mirror
  unsigned clients_ = 0, working_ = 0;
  std::uint64_t failed_hints_ = 0;  ///< bytes
  Clock::time_point stage_after_{}, one_by_one_until_{}, hints_until_{}, rest_of_hints_until_{},
      verify_after_{}, collected_{}, gave_{};
  std::chrono::milliseconds store_pause_;  ///< of staging, after the store's next failure
  bool store_fails_ = false;
  Rarely store_lines_, disk_lines_, damage_lines_;
  bool verifying_ = false;
  bool full_ = false;  ///< the rest of the archive found no room
};

}  // namespace shardfs
