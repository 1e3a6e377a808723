// Which ranges of archives are worth a place of their own outside the mirror's units. Policy alone:
// no I/O, no lock, no clock; the cache server and the simulator in tests/bench run the same code.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <unordered_map>
#include <vector>

namespace shardfs {

/// A range of an archive's bytes. All 32 bytes count and none is padding: they are hashed as they
/// lie.
struct HotKey {
  std::array<std::byte, 16> archive = {};  ///< the archive's identity
  std::uint64_t offset = 0;                ///< in the archive, bytes
  std::uint64_t length = 0;                ///< bytes

  bool operator==(const HotKey&) const = default;
};

struct HotKeyHash {
  std::size_t operator()(const HotKey& key) const;
};

/// Counts the misses of ranges that are not held. A count is forgotten once `reach_bytes` were
/// missed since its last miss, or earlier where more ranges were missed than there are entries. 8
/// bytes an entry, all of them from the start. One thread at a time.
class GhostList {
 public:
  GhostList(std::size_t entries, std::uint64_t reach_bytes);

  /// A miss of `bytes` of the range with this hash. How many of it are remembered, this one
  /// included; at most 255.
  unsigned count(std::uint64_t hash, std::uint64_t bytes);
  void forget(std::uint64_t hash);
  /// From then on; a longer reach forgets all.
  void reach_at_least(std::uint64_t bytes);

 private:
  [[nodiscard]] std::uint64_t tick() const;
  [[nodiscard]] bool recent(std::uint64_t slot) const;
  /// The slots where the hash may be, the latest missed first.
  std::vector<std::uint64_t>::iterator set_of(std::uint64_t hash);

  std::uint64_t reach_;               // bytes
  std::uint64_t missed_ = 0;          // bytes
  std::vector<std::uint64_t> slots_;  // hash (40 bits), tick of the last miss (16), count (8); or 0
};

/// Which ranges the bounded store of hot ranges holds, least lately used first out, and which are
/// let in: those missed again and again within a short time. About 130 bytes a range held. One
/// thread at a time.
class HotRanges {
 public:
  // By tests/bench/admission.cpp; hit % of files of 20 KB where half of the archive fits. Without
  // hot ranges it is 59.7 for Zipf 0.8, 74.5 for Zipf 1, 50.1 for a weighted sampler whose classes
  // lie scattered, 92.7 where they lie together, 49.9 for shuffled epochs.

  /// Of the budget, what hot ranges may take at most; what they do not take is the mirror's. 2 %
  /// gives 68, 82, 53, 92.5, 49.9; 5 % gives 72, 85, 57, 92, 49.9; 10 % gives 75, 87, 63, 91, 49.9;
  /// 20 % gains with the scattered sampler alone. Set aside for good, a tenth costs the epochs 5.
  static constexpr double kShare = 0.1;

  /// Misses at which a range is let in, the last one included. 2 hits as often with Zipf, writes
  /// four times as much, and takes room from shuffled epochs too (49.0).
  static constexpr unsigned kMisses = 3;

  /// Of the archive's bytes, how much may be missed between two misses of a range for it to be let
  /// in. A file of shuffled epochs can be missed three times at such distances only where they are
  /// more than half of an epoch's misses, so up to 80 % cached none is let in; without a limit 14 %
  /// of what the epochs read would be written (48.0).
  static constexpr double kReach = 0.1;

  /// Ranges whose misses are remembered, at 8 bytes. They span a tenth of an archive of 650,000
  /// files; of a larger one, fewer of the hot ranges are found.
  static constexpr std::size_t kGhosts = 64 * 1024;

  /// `reach_bytes`: kReach of the bytes of the archives in question.
  HotRanges(std::uint64_t capacity_bytes, std::uint64_t reach_bytes, unsigned misses = kMisses,
            std::size_t ghosts = kGhosts);

  /// Counts a miss of a range whose value would take `bytes`, and says whether it is to be let in
  /// now. Having said so it counts from the beginning. Never for what is held already, nor for more
  /// than an eighth of the store: one long range is not to push out all others.
  [[nodiscard]] bool wants(const HotKey& key, std::uint64_t bytes);

  /// The range is held from now on, as the latest used; what must go for it is given back, the
  /// least lately used first. A range held already takes its new size. One that is larger than the
  /// store is not held afterwards; it is given back itself if it was held before.
  [[nodiscard]] std::vector<HotKey> insert(const HotKey& key, std::uint64_t bytes);

  /// The range was read: true, and it is the latest used, where it is held.
  bool touch(const HotKey& key);
  /// True where it was held.
  bool erase(const HotKey& key);
  [[nodiscard]] bool contains(const HotKey& key) const { return index_.contains(key); }

  /// Gives the store another size; gives back what must go for it.
  [[nodiscard]] std::vector<HotKey> resize(std::uint64_t capacity_bytes);

  /// Another archive, of which kReach is so many bytes.
  void reach_at_least(std::uint64_t bytes) { ghosts_.reach_at_least(bytes); }

  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  [[nodiscard]] std::size_t ranges() const { return index_.size(); }

 private:
  struct Held {
    HotKey key;
    std::uint64_t bytes;
  };
  using Order = std::list<Held>;

  void remove(Order::iterator held);
  [[nodiscard]] std::vector<HotKey> shrink_to(std::uint64_t bytes);

  std::uint64_t capacity_;
  unsigned misses_;
  std::uint64_t bytes_ = 0;  // of all in order_
  GhostList ghosts_;
  Order order_;  // the latest used first
  std::unordered_map<HotKey, Order::iterator, HotKeyHash> index_;
};

}  // namespace shardfs
