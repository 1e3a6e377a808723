// Numbers of files that do not change as an archive is scanned.
#pragma once

#include <vector>

#include "fs/tree/tree.h"

namespace shardfs {

/// Numbers of files that stay the same as members are added, and the entry that each has in one
/// index: kNoEntry where it has none, for example because a later member has its path.
struct StableNumbers {
  static constexpr Entry kNoEntry = 0xffffffff;
  std::vector<Entry> members;      ///< by number as add() gave it; none of a directory
  std::vector<Entry> directories;  ///< in order of their first mention; 0 is the root
};

}  // namespace shardfs
