// The directory in which a node's cache lies: DIR/.shardfs-UID.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "fs/base/result.h"
#include "fs/base/unique_fd.h"

namespace shardfs {

/// What a file system is good for.
struct FileSystem {
  std::string type;              ///< "ext4", "nfs", ..., or its magic number in hex
  bool shared = false;           ///< reached over a network, or through a FUSE daemon
  bool in_memory = false;        ///< tmpfs: its bytes are charged to the job's memory
  std::uint64_t bytes = 0;       ///< of the whole
  std::uint64_t free_bytes = 0;  ///< for this user
};

/// By fstatfs(2).
[[nodiscard]] Result<FileSystem> file_system_of(int fd, const std::string& name);

/// An opened cache directory, which was made where it was not there. Mode 0700, owned by this user.
class CacheDirectory {
 public:
  /// In `parent`. Unsupported, with the reason: it is on a shared file system, belongs to somebody
  /// else, is open to others, or is a link. Io (EROFS, EACCES, ...), NotFound, NoSpace as met.
  [[nodiscard]] static Result<CacheDirectory> open(const std::string& parent);

  /// Absolute; for messages and commands.
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] const FileSystem& file_system() const { return file_system_; }

  /// A path of an entry that works however long the directory's own is, for as long as this object
  /// lives; socket addresses have room for 107 bytes.
  [[nodiscard]] std::string short_path(std::string_view name) const;

 private:
  CacheDirectory() = default;
  std::string path_;
  UniqueFd fd_;
  FileSystem file_system_;
};

/// Name of a user's cache directory: ".shardfs-1000".
[[nodiscard]] std::string cache_directory_name();

}  // namespace shardfs
