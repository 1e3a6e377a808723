// The archive order of a directory's files, where it is not by name.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "fs/base/result.h"
#include "tools/mkshard/walk.h"

namespace shardfs {

/// Every path of a tree, packed: about 10 bytes a path and its name.
class PathList {
 public:
  struct Item {
    std::uint32_t directory;  ///< number of the directory's path
    std::uint64_t name : 56;  ///< offset of its name
    std::uint64_t type : 8;   ///< as in readdir(3)
  };

  /// Takes names in the order of a walk.
  void add(const DirectoryRef& directory, std::string_view name, unsigned char type);

  [[nodiscard]] std::string path(const Item& item) const;

  [[nodiscard]] bool has_directory(const std::string& path) const {
    return numbers_.contains(path);
  }

  /// Directories in the order of the walk, the source first; everything else.
  std::vector<Item> directories, others;

 private:
  std::uint32_t number_of(const std::string& path);

  std::vector<std::string> directory_paths_;
  std::unordered_map<std::string, std::uint32_t> numbers_;  ///< of directory_paths_
  std::uint32_t current_ = 0;                               ///< number of the last name's directory
  std::string names_;
};

/// Puts `list.others` in an order that depends on `seed` and their number only: a Fisher-Yates
/// shuffle from the last to the second with splitmix64, started at `seed`; the partner of place i
/// is the next value modulo i + 1.
void shuffle(PathList& list, std::uint64_t seed);

/// Puts the paths of `wanted` in front of `list.others`, in that order. NotFound if one of them is
/// not there; those that name directories are passed over.
[[nodiscard]] Result<void> sort_as_listed(PathList& list, const std::vector<std::string>& wanted);

}  // namespace shardfs
