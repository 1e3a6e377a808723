// Ranges that readers are going to ask for, in their order; fetched a little ahead of them.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "cache/common/protocol.h"
#include "fs/base/bytes.h"

namespace shardfs {

/// What was hinted and is not in the mirror is held in memory until it is asked for, as much as
/// there is room: so the list is followed at the speed of the readers, and never overruns the
/// cache. Ranges of the list's next part that lie close to each other are fetched in one request.
/// No I/O; the caller's lock guards it.
class Hints {
 public:
  /// Bytes between two ranges that are fetched with them rather than left out: what a store of 1
  /// GB/s sends in a third of the time that a request of 3 ms takes where eight are on their way.
  /// Twice as much makes an epoch a third faster, and has the store send 3.7 times the archive,
  /// not 2.1.
  static constexpr std::uint64_t kGap = 128 << 10;
  /// Most ranges that are planned or held, however small: planning so many takes some 10 ms.
  static constexpr std::size_t kMostRanges = 32'768;
  /// Most bytes of one request.
  static constexpr std::uint64_t kRequest = 4 << 20;

  struct Fetch {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
  };

  /// `room`: bytes fetched ahead of the readers. The more of a list is looked at together, the more
  /// of it lies close together.
  explicit Hints(std::uint64_t room) : room_(room) {}

  void add(std::span<const HintRange> ranges, bool replace);
  /// Ranges that are not yet planned fill the room.
  [[nodiscard]] bool has_plenty() const {
    return listed_bytes_ >= room_ || listed_.size() >= kMostRanges;
  }

  /// The next request to make, if there is room ahead. Ranges for which `is_cached` holds are
  /// passed over; no more of them are looked at than `goes_on` allows.
  /// The one with byte `first` before others, if it is among those to be made.
  [[nodiscard]] std::optional<Fetch> next(
      const std::function<bool(const HintRange&)>& is_cached,
      const std::function<bool()>& goes_on = [] { return true; },
      std::optional<std::uint64_t> first = {});

  /// Bytes of a request made, or nothing if it failed.
  void fetched(const Fetch& fetch, std::optional<ByteSpan> bytes);

  enum class Outcome : std::uint8_t {
    Unknown,
    Planned,  ///< its request has not been made yet
    Coming,   ///< it has been
    Here
  };
  /// Whether a range is held or to come. Here: `use` is called with its bytes, which may then be
  /// dropped.
  [[nodiscard]] Outcome find(std::uint64_t offset, std::uint64_t length,
                             const std::function<void(ByteSpan)>& use);

  [[nodiscard]] bool is_empty() const { return listed_.empty() && planned_.empty(); }
  /// Bytes of ranges that will be fetched without anybody's reading what is held.
  [[nodiscard]] std::uint64_t due_bytes() const;

 private:
  /// One hinted range that is planned, on its way, or held.
  struct Held {
    std::uint64_t length = 0;
    std::uint64_t turn = 0;  ///< its place in the list
    bool begun = false;      ///< its request has been made
    bool here = false;
    Bytes bytes = {};
  };

  [[nodiscard]] bool has_room() const {
    return ahead_ <= room_ / 2 && held_.size() <= kMostRanges / 2;
  }
  void plan(const std::function<bool(const HintRange&)>& is_cached,
            const std::function<bool()>& goes_on);
  void drop_before(std::uint64_t turn);

  const std::uint64_t room_;
  std::deque<HintRange> listed_;  ///< not yet planned
  std::uint64_t listed_bytes_ = 0;
  std::map<std::uint64_t, Held> held_;                         ///< by offset
  std::deque<std::pair<std::uint64_t, std::uint64_t>> order_;  ///< turn and offset of what was held
  std::map<std::uint64_t, std::uint64_t> planned_;  ///< offset → length of requests to be made
  std::uint64_t ahead_ = 0;                         ///< bytes in held_
  std::uint64_t turns_ = 0;                         ///< ranges taken from the list so far
  std::uint64_t passed_ = 0;                        ///< turns before it are dropped
};

}  // namespace shardfs
