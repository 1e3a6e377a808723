#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <sys/stat.h>

#include "fs/base/result.h"
#include "fs/base/unique_fd.h"

namespace slowstore {

/// A regular file of the directory served, as it was when its name was first looked up. It is kept
/// open, so that it outlives its name and its inode number is given to no other.
struct File {
  std::uint64_t inode;  ///< as the kernel names it; 1 is the directory
  std::string name;     ///< the one it was first found by
  shardfs::UniqueFd fd;
};

/// The files of one directory, which others may change at any time. Thread-safe.
class Files {
 public:
  /// NotFound or Io if it cannot be opened.
  [[nodiscard]] static shardfs::Result<shardfs::UniqueFd> open_directory(const std::string& path);
  explicit Files(shardfs::UniqueFd directory) : directory_(std::move(directory)) {}

  /// What has this name now; a symbolic link is followed. Valid for the life of this object.
  /// NotFound if it is not a regular file.
  [[nodiscard]] shardfs::Result<const File*> find(const std::string& name);
  /// The file found before under this number. REQUIRES: find() gave it.
  [[nodiscard]] const File& at(std::uint64_t inode) const;
  /// The regular files that are there now, sorted, with their attributes.
  [[nodiscard]] std::vector<std::pair<std::string, struct stat>> list() const;
  [[nodiscard]] int directory_fd() const { return directory_.get(); }

 private:
  using Key = std::pair<dev_t, ino_t>;

  shardfs::UniqueFd directory_;
  mutable std::mutex mutex_;
  std::map<Key, const File*> known_;
  std::deque<File> files_;  ///< that with inode n is at n - 2
};

}  // namespace slowstore
