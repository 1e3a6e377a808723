#include "tools/shardfs/mount_hot_list.h"

#include <cstdint>
#include <string>
#include <vector>

#include <spdlog/spdlog.h>

#include "fs/dataset/hot_list.h"

namespace shardfs {
namespace {

/// What the list of an earlier job names. A list is a convenience: what is wrong with it is said,
/// and goes no further.
std::vector<HintRange> hot_ranges(const Dataset& dataset, const std::string& path) {
  std::vector<HintRange> ranges;
  const auto list = load_hot_list(path);
  if (!list) {
    if (list.error().kind != ErrorKind::NotFound) spdlog::warn("{}", list.error().message);
    return ranges;
  }
  if (list->archive_id != dataset.archive().info().id) {
    spdlog::warn("{}: the hot list of another archive; it is not used", path);
    return ranges;
  }
  const std::uint64_t size = dataset.cache()->size();
  for (const Unit unit : list->units) {
    if (unit < units_of(size)) ranges.push_back({unit * kUnitBytes, unit_size(unit, size)});
  }
  return ranges;
}

}  // namespace

void use_hot_list(const Dataset& dataset, const std::string& path) {
  if (path.empty() || dataset.cache() == nullptr) return;
  if (const auto done = dataset.cache()->hint(hot_ranges(dataset, path), 0); !done)
    spdlog::warn("{}: {}", path, done.error().message);
}

void keep_hot_list(const Dataset& dataset, const std::string& path) {
  if (path.empty() || dataset.cache() == nullptr) return;
  const HotList list{dataset.archive().info().id, dataset.cache()->present_units()};
  if (list.units.empty()) return;  // Nothing was cached: an earlier job's is worth more.
  if (const auto done = save_hot_list(path, list); !done) spdlog::warn("{}", done.error().message);
}

}  // namespace shardfs
