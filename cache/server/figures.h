// What a cache server tells of itself, as JSON.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cache/common/archive_id.h"
#include "cache/common/cache_directory.h"
#include "cache/server/archive_cache.h"
#include "cache/server/budget.h"

namespace shardfs {

/// The tier, staged_bytes, store{} and cache{} of `shardfs stats`.
[[nodiscard]] std::string archive_figures(ArchiveCache& archive, const Budget& budget,
                                          const CacheDirectory& directory,
                                          std::uint64_t block_bytes);

/// One archive of `shardfs cache ls`.
struct ListedArchive {
  std::string id;
  std::string path;  ///< where it was; "" if that is not known
  std::uint64_t cached_bytes = 0;
  std::uint64_t archive_bytes = 0;  ///< 0 if that is not known
  unsigned clients = 0;
  std::string state;
};
[[nodiscard]] std::string directory_figures(const std::vector<ListedArchive>& archives,
                                            const Budget& budget, const CacheDirectory& directory,
                                            std::uint64_t block_bytes);

/// The archive that a mirror's file name stands for.
[[nodiscard]] std::optional<ArchiveId> parse_id(std::string_view file);

}  // namespace shardfs
