#include "tools/mkshard/order.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <dirent.h>

#include "fs/base/bytes.h"
#include "fs/base/checksum.h"
#include "fs/tree/import.h"

namespace shardfs {
namespace {

/// Steele, Lea, Flood: Fast splittable pseudorandom number generators (OOPSLA 2014).
std::uint64_t splitmix64(std::uint64_t& state) {
  state += 0x9E3779B97F4A7C15;
  std::uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

std::uint64_t hash_of(std::string_view path) { return checksum64(as_bytes(path)); }

/// Index of each path by its hash; equal hashes stand side by side.
using HashIndex = std::vector<std::pair<std::uint64_t, std::uint32_t>>;

HashIndex index_paths(const PathList& list) {
  HashIndex index;
  index.reserve(list.others.size());
  for (std::uint32_t i = 0; i < list.others.size(); ++i) {
    index.emplace_back(hash_of(list.path(list.others[i])), i);
  }
  std::ranges::sort(index);
  return index;
}

std::optional<std::uint32_t> find(const PathList& list, const HashIndex& index,
                                  const std::string& path) {
  const std::uint64_t hash = hash_of(path);
  auto at = std::ranges::lower_bound(index, std::pair(hash, std::uint32_t{0}));
  for (; at != index.end() && at->first == hash; ++at) {
    if (list.path(list.others[at->second]) == path) return at->second;
  }
  return std::nullopt;
}

}  // namespace

void PathList::add(const DirectoryRef& directory, std::string_view name, unsigned char type) {
  // Neighbours mostly stand in the same directory.
  if (directory_paths_.empty() || directory_paths_[current_] != directory->path) {
    current_ = number_of(directory->path);
  }
  const Item item{current_, names_.size(), type};
  names_.append(name).push_back('\0');
  (type == DT_DIR ? directories : others).push_back(item);
  if (type == DT_DIR) number_of(path(item));
}

std::uint32_t PathList::number_of(const std::string& path) {
  const auto next = static_cast<std::uint32_t>(directory_paths_.size());
  const auto [at, added] = numbers_.emplace(path, next);
  if (added) directory_paths_.push_back(path);
  return at->second;
}

std::string PathList::path(const Item& item) const {
  return join_path(directory_paths_[item.directory], names_.data() + item.name);
}

void shuffle(PathList& list, std::uint64_t seed) {
  for (std::size_t i = list.others.size(); i > 1; --i) {
    std::swap(list.others[i - 1], list.others[splitmix64(seed) % i]);
  }
}

Result<void> sort_as_listed(PathList& list, const std::vector<std::string>& wanted) {
  const HashIndex index = index_paths(list);
  std::vector<bool> taken(list.others.size());
  std::vector<PathList::Item> sorted;
  sorted.reserve(list.others.size());
  const auto take = [&](std::uint32_t i) {
    if (!taken[i]) sorted.push_back(list.others[i]);
    taken[i] = true;
  };
  for (const std::string& text : wanted) {
    const auto path = normalized_path(text);
    const auto found = path ? find(list, index, *path) : std::nullopt;
    if (found) take(*found);
    if (!found && !(path && list.has_directory(*path))) {
      return fail(ErrorKind::NotFound, text + ": is in the --order list and not in SOURCE");
    }
  }
  for (std::uint32_t i = 0; i < list.others.size(); ++i) take(i);
  list.others = std::move(sorted);
  return {};
}

}  // namespace shardfs
