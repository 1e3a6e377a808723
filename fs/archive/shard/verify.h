// Parts of `verify` that both containers of a shard share.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string_view>
#include <vector>

#include "fs/archive/shard/data_map.h"
#include "fs/archive/verify.h"
#include "fs/base/checksum.h"
#include "fs/tree/index.h"
#include "fs/tree/tree.h"

namespace shardfs {

/// A digest over parts that several threads bring, each at its turn.
class OrderedDigest {
 public:
  /// Waits for turn number `turn`, adds `parts`, and ends the turn. Every turn from 0 on must be
  /// taken by some thread, or abandon() be called.
  void add(std::uint64_t turn, const std::vector<ByteSpan>& parts);
  /// No one waits any more; the value means nothing.
  void abandon();
  [[nodiscard]] std::uint64_t value() const { return digest_.value(); }

 private:
  std::mutex mutex_;
  std::condition_variable turned_;
  std::uint64_t turn_ = 0;  ///< guarded by mutex_
  bool abandoned_ = false;  ///< guarded by mutex_
  Checksum64 digest_;       ///< belongs to the thread whose turn it is
};

/// The bytes of the tar stream from `begin` on that are in `bytes` and in no range of `map`.
[[nodiscard]] std::vector<ByteSpan> headers_in(const DataMap& map, std::uint64_t begin,
                                               ByteSpan bytes);

/// Compares the source's bytes from `offset` on with what they must be; if they differ that is a
/// finding under the name `what`.
[[nodiscard]] Result<void> compare(const ByteSource& source, std::uint64_t offset,
                                   ByteSpan expected, std::string_view what, Findings& findings);

/// Looks at every entry of an index as a mount might: what cannot be, and wrong totals, are
/// findings.
void check_entries(const Index& index, const Tree& tree, Findings& findings);

}  // namespace shardfs
