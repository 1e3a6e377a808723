// What is to go wrong with which reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/slowstore_counters.h"

namespace slowstore {

/// Bytes of a file, from `begin` up to `end`.
struct Range {
  std::uint64_t begin = 0;
  std::uint64_t end = std::numeric_limits<std::uint64_t>::max();

  [[nodiscard]] bool touches(const Range& other) const {
    return begin < other.end && other.begin < end;
  }
};

/// One thing that is to go wrong, with the reads that touch `range` of the files named.
struct Fault {
  enum class Kind : std::uint8_t {
    Fail,   ///< answered with `error`
    Stall,  ///< not answered
    Short,  ///< answered with at most `bytes`
    Flip,   ///< answered with one bit wrong, in the middle of what it shares with `range`
  };

  Kind kind = Kind::Fail;
  int error = 0;                     ///< errno
  std::optional<std::size_t> bytes;  ///< otherwise half of what was asked for
  std::optional<std::string> name;   ///< otherwise every file
  Range range;
  std::optional<std::uint64_t> count;  ///< reads it is still for; otherwise until taken back
};

/// What goes wrong with one read.
struct Effect {
  int error = 0;
  bool stalled = false;
  std::optional<std::size_t> limit;  ///< bytes
  std::vector<Range> flips;
};

/// The faults in force. One thread at a time.
class Faults {
 public:
  void add(Fault fault) { faults_.push_back(std::move(fault)); }
  void clear() { faults_.clear(); }
  void clear_stalls();
  /// What becomes of a read of `asked` bytes; takes it off the counts.
  [[nodiscard]] Effect meet(const std::string& name, std::uint64_t offset, std::size_t asked);

 private:
  std::vector<Fault> faults_;
};

/// Cuts `size` and flips bits in `data`, which lies at `offset` of its file, as `effect` says;
/// returns what it did. `size` is what is valid of `data`.
Damage spoil(const Effect& effect, std::uint64_t offset, char* data, std::size_t& size);

}  // namespace slowstore
