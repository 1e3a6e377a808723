// What a job had cached, written down for the next one.
#pragma once

#include <string>
#include <vector>

#include "cache/common/units.h"
#include "fs/base/result.h"

namespace shardfs {

/// A text file: a line that names format and archive, then the numbers of units, a line each, those
/// to be fetched first at the front.
struct HotList {
  std::string archive_id;  ///< ArchiveInfo::id
  std::vector<Unit> units;
};

/// Replaces `path` by a new file (temporary name, rename). Io and NoSpace leave what was there.
[[nodiscard]] Result<void> save_hot_list(const std::string& path, const HotList& list);

/// NotFound where there is none; Invalid if it is no hot list.
[[nodiscard]] Result<HotList> load_hot_list(const std::string& path);

}  // namespace shardfs
