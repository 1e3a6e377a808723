// A search in a packed column whose values ascend.
#pragma once

#include <cstdint>

#include "fs/tree/packed_column.h"

namespace shardfs {

/// Number of the last value that is `value` or less; 0 if there is none. The column's last value is
/// a sentinel and not looked at. O(log n); any column, ascending or not, is safe to search.
/// REQUIRES: two values at least.
[[nodiscard]] inline std::uint64_t last_not_above(const PackedColumn& column, std::uint64_t value) {
  std::uint64_t low = 0, high = column.size() - 1;
  while (high - low > 1) {
    const std::uint64_t middle = low + (high - low) / 2;
    (column[middle] <= value ? low : high) = middle;
  }
  return low;
}

}  // namespace shardfs
