#include "fs/mount/commands.h"

#include <algorithm>
#include <chrono>
#include <string_view>
#include <vector>

#include "fs/mount/report.h"

namespace shardfs {

namespace {

constexpr std::uint64_t kWholeStep = kUnitBytes;

std::vector<HintRange> whole_archive(const CachedSource& cache) {
  std::vector<HintRange> ranges;
  for (std::uint64_t at = 0; at < cache.size(); at += kWholeStep)
    ranges.push_back({at, std::min(kWholeStep, cache.size() - at)});
  return ranges;
}

/// Appends where a file's bytes lie. False if `path` is no file of the mount.
bool add_file(const Served& served, std::string_view path, std::vector<HintRange>& ranges) {
  const Tree& tree = served.dataset.tree();
  std::string full = served.subdir;
  if (!full.empty()) full += '/';
  full += path;
  const auto entry = tree.find(full);
  const auto inode = entry ? tree.inode(*entry) : std::unexpected(entry.error());
  const auto attributes = inode ? tree.attributes(*inode) : std::unexpected(inode.error());
  if (!attributes || !S_ISREG(attributes->mode)) return false;
  const auto extents = served.dataset.archive().extents(*inode);
  if (!extents) return false;
  for (const Extent& e : *extents) {
    // Small files share a frame: the same one again is no new hint.
    const bool again = !ranges.empty() && ranges.back().offset == e.offset;
    if (!again) ranges.push_back({e.offset, e.length});
  }
  return true;
}

}  // namespace

void mark(Served& served, const MarkCommand& command) {
  const auto end = std::ranges::find(command.label, '\0');
  served.marks.add({std::string(command.label.begin(), end), seconds_since(served.since),
                    daemon_figures(served)});
}

Result<void> warm(const Served& served, WarmCommand& command) {
  const CachedSource* const cache = served.dataset.cache();
  if (cache == nullptr)
    return fail(ErrorKind::Unsupported,
                served.directory + ": nothing is cached, so nothing to warm");
  std::vector<HintRange> ranges;
  command.unknown = 0;
  std::string_view names(command.names.data(),
                         std::min<std::size_t>(command.size, command.names.size()));
  while (!names.empty()) {
    const std::size_t end = std::min(names.find('\0'), names.size());
    if (!add_file(served, names.substr(0, end), ranges)) ++command.unknown;
    names.remove_prefix(std::min(end + 1, names.size()));
  }
  if ((command.flags & WarmCommand::kAll) != 0) ranges = whole_archive(*cache);
  const bool replace = (command.flags & WarmCommand::kReplace) != 0;
  const bool more = (command.flags & WarmCommand::kMore) != 0;
  return cache->hint(ranges,
                     (replace ? HintRequest::kReplace : 0) | (more ? HintRequest::kMore : 0));
}

}  // namespace shardfs
