// The options that say how an archive is cached; mount and run share them.
#pragma once

#include <string>

#include "fs/base/result.h"
#include "fs/dataset/dataset.h"

namespace CLI {
class App;
}

namespace shardfs {

/// As given on the command line, or in the environment (SHARDFS_TIER for --tier, and so on).
struct MountCacheOptions {
  std::string tier = "auto";
  std::string directory;
  std::string size;     ///< "50G", "40%", or "": what is free
  std::string reserve;  ///< likewise
  std::string rate = "0";
  std::string inflight = "8";
  std::string timeout = "60s";
  std::string hot_list;  ///< "" for none
  bool save_index = false;
};

void add_cache_options(CLI::App& app, MountCacheOptions& options);

/// Invalid: a value that makes no sense, named.
[[nodiscard]] Result<CacheSettings> cache_settings(const MountCacheOptions& options);

}  // namespace shardfs
