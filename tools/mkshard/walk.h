// The names below a directory, in archive order.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

#include "fs/base/result.h"
#include "fs/base/unique_fd.h"
#include "tools/mkshard/exclude.h"

namespace shardfs {

/// An open directory of the source, kept open as long as somebody holds it.
struct DirectoryHandle {
  UniqueFd fd;
  std::string path;  ///< relative to the source; "" is the source
  dev_t device = 0;
  ino_t inode = 0;
};
using DirectoryRef = std::shared_ptr<const DirectoryHandle>;

/// Path of `name` in a directory with path `parent`; either may be empty.
[[nodiscard]] std::string join_path(std::string_view parent, std::string_view name);

/// Paths to be packed, with all that is below them; sorted, none below another.
class Selection {
 public:
  /// Takes paths relative to the source; leading "./" and trailing "/" are dropped. Invalid: an
  /// absolute path or a ".." component.
  [[nodiscard]] static Result<Selection> create(const std::vector<std::string>& paths);

  [[nodiscard]] const std::vector<std::string>& paths() const { return paths_; }

 private:
  std::vector<std::string> paths_;
};

/// Whoever takes the names of a walk, in the walk's thread.
class Visitor {
 public:
  virtual ~Visitor() = default;
  /// A name in `directory` ("" is the source itself, once, first), its type as in readdir(3), never
  /// DT_UNKNOWN; a directory comes before what is in it. `fraction` of the walk is done. Returning
  /// false ends the walk.
  virtual bool visit(const DirectoryRef& directory, std::string_view name, unsigned char type,
                     double fraction) = 0;
  /// `path` and what is below it cannot be read. Returning false ends the walk.
  virtual bool failed(const std::string& path, Error error) = 0;
};

/// Opens the source directory.
[[nodiscard]] Result<DirectoryRef> open_root(const std::string& source);

/// Walks depth-first, names of a directory in the order of their bytes. Uses at most 100
/// descriptors, whatever the depth. `selection` is null for everything; directories above selected
/// paths are visited too.
void walk(const DirectoryRef& root, const Excludes& excludes, const Selection* selection,
          Visitor& visitor);

}  // namespace shardfs
