// Which units of an archive the partial tier keeps when not all of them fit. Policy alone: no I/O,
// no lock, no clock; the cache server and the simulator in tests/bench run the same code.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "cache/common/units.h"

namespace shardfs {

/// The kept units of one archive and how often each unit was read lately, and how much of it. What
/// is kept stays kept until another unit is read clearly more often, and twice as much: under
/// shuffled epochs every unit is read alike, and any replacement would only cost traffic.
///
/// Time is counted in windows of as many bytes read as the archive has, that is in epochs where a
/// job reads all of it. A unit's touches and bytes are those of this window and the last. Units
/// beyond the archive are never kept, and touching them changes nothing.
///
/// 32.125 bytes a unit, so 820 KB for an archive of 100 GiB. One thread at a time.
class Admission {
 public:
  Admission(Unit units, std::uint64_t archive_bytes);

  /// `unit` was touched by `times` reads of `bytes` in all, served from the mirror or missed. A
  /// read over several units touches each with its bytes there. Ends at most one window: the
  /// touches belong to the window that ends.
  ///
  /// A request that goes on where the last one of its file ended is no new touch of the unit both
  /// are in (`times` 0, its bytes count): else a file of 6 MB is 46 touches, and shuffled epochs
  /// out of step with the windows replace units all the time (hit 43 % at half cached, not 48).
  void touch(Unit unit, std::uint32_t times, std::uint64_t bytes);

  /// The caller's bookkeeping of what the mirror holds. Saying a thing again changes nothing.
  void kept(Unit unit);
  void dropped(Unit unit);
  [[nodiscard]] bool is_kept(Unit unit) const;
  [[nodiscard]] Unit kept_units() const { return kept_units_; }

  /// The kept unit to give up so that `candidate` can come in; nothing where `candidate` is to stay
  /// out, which it always is in the first window. Only an answer: the caller then says dropped()
  /// of the victim, and kept() of the candidate once it is there. Asking moves the clock's hand.
  [[nodiscard]] std::optional<Unit> victim_for(Unit candidate);

  /// The kept unit to give up where the mirror must get smaller whatever is read; nothing where
  /// none is kept. Moves the clock's hand too.
  [[nodiscard]] std::optional<Unit> victim_for_space();

 private:
  /// How a unit was read in one window.
  struct Use {
    std::uint32_t touches = 0;
    std::uint64_t bytes = 0;
  };

  [[nodiscard]] std::uint64_t touches(Unit unit) const;
  [[nodiscard]] std::uint64_t bytes(Unit unit) const;
  void end_window();
  Unit coldest_of_next();
  Unit next_kept();

  const Unit units_;
  const std::uint64_t window_;  // bytes, at least 1
  std::uint64_t read_ = 0;      // bytes in this window, less than window_
  bool first_window_ = true;
  Unit kept_units_ = 0;              // bits set in kept_
  Unit hand_ = 0;                    // where the search for the next victim begins
  std::vector<Use> current_, last_;  // of each unit, in this window and the last
  std::vector<std::uint64_t> kept_;  // one bit a unit
};

}  // namespace shardfs
