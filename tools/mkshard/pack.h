// Packs what the options say.
#pragma once

#include <string>
#include <vector>

#include "fs/archive/shard/writer.h"
#include "fs/base/result.h"
#include "tools/common/progress.h"
#include "tools/mkshard/member_source.h"
#include "tools/mkshard/options.h"

namespace shardfs {

/// "tar" or "tar.zst": what comes behind the dot of a shard's name.
[[nodiscard]] const char* name_of(Container container);

struct PackResult {
  std::string output;  ///< the archive's path, with suffix
  ShardSummary summary;
  std::string digest;  ///< XXH3-64 of the archive's bytes, 16 hex digits
  double seconds = 0;
  std::vector<Skipped> skipped;
};

/// Packs options.source. After an error nothing is left behind. Warnings go through `progress`;
/// those about single files are never held back, the others only without options.quiet.
[[nodiscard]] Result<PackResult> pack(const Options& options, Progress& progress);

}  // namespace shardfs
