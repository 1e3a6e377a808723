#include "tools/mkshard/walk.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <optional>

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include "fs/tree/import.h"

namespace shardfs {
namespace {

// Directories kept open above the current one; those further up are found again through "..".
constexpr std::size_t kOpenAncestors = 64;

/// One name of a directory; a million of them must be cheap.
struct Name {
  std::uint32_t offset = 0;  ///< of the text in NameList::texts_
  unsigned char type = DT_UNKNOWN;
};

/// The names of one directory, sorted.
class NameList {
 public:
  void add(std::string_view name, unsigned char type) {
    names_.push_back({static_cast<std::uint32_t>(texts_.size()), type});
    texts_.append(name).push_back('\0');
  }
  void sort() {
    std::ranges::sort(names_, [this](const Name& a, const Name& b) {
      return std::strcmp(text(a), text(b)) < 0;  // Compares bytes as unsigned.
    });
  }
  [[nodiscard]] std::size_t size() const { return names_.size(); }
  [[nodiscard]] std::string_view name(std::size_t i) const { return text(names_[i]); }
  [[nodiscard]] unsigned char type(std::size_t i) const { return names_[i].type; }

 private:
  [[nodiscard]] const char* text(const Name& name) const { return texts_.data() + name.offset; }
  std::string texts_;
  std::vector<Name> names_;
};

/// Part of a Selection's paths: those below one directory.
struct Range {
  std::size_t begin = 0, end = 0;
};

/// One directory on the way from the root to where the walk is.
struct Frame {
  DirectoryRef handle;  ///< empty while closed
  std::string path;
  dev_t device = 0;
  ino_t inode = 0;
  NameList names;
  std::vector<std::optional<Range>> ranges;  ///< by name where only a part is selected; else empty
  std::size_t next = 0;                      ///< index of the name to visit next
  double begin = 0, share = 1;               ///< of the whole walk, estimated
};

Result<DirectoryRef> open_at(int parent, const char* name, std::string path) {
  auto handle = std::make_shared<DirectoryHandle>();
  handle->fd.reset(::openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat status = {};
  if (!handle->fd || ::fstat(handle->fd.get(), &status) != 0) {
    return fail_errno(errno, path, "cannot open the directory");
  }
  handle->path = std::move(path);
  handle->device = status.st_dev;
  handle->inode = status.st_ino;
  return handle;
}

Result<NameList> read_names(const DirectoryHandle& directory) {
  // A descriptor of its own: fdopendir() takes it over, and its position.
  const int fd = ::openat(directory.fd.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(fd < 0 ? nullptr : ::fdopendir(fd), ::closedir);
  if (!stream) return fail_errno(errno, directory.path, "cannot read the directory");
  NameList names;
  while (true) {
    errno = 0;
    const dirent* entry = ::readdir(stream.get());
    if (entry == nullptr) break;
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.add(name, entry->d_type);
  }
  if (errno != 0) return fail_errno(errno, directory.path, "cannot read the directory");
  names.sort();
  return names;
}

/// Type of `name` as in readdir(3); DT_UNKNOWN if it cannot be found out.
unsigned char type_of(const DirectoryHandle& directory, std::string_view name) {
  struct stat status = {};
  if (::fstatat(directory.fd.get(), std::string(name).c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
    return DT_UNKNOWN;
  }
  return IFTODT(status.st_mode);
}

/// Order of a depth-first walk: "/" sorts before any other byte.
bool walk_order(const std::string& a, const std::string& b) {
  const auto key = [](char c) {
    return c == '/' ? 0 : static_cast<int>(static_cast<unsigned char>(c));
  };
  return std::ranges::lexicographical_compare(a, b, {}, key, key);
}

bool is_below(std::string_view path, std::string_view directory) {
  return directory.empty() || (path.size() > directory.size() && path.starts_with(directory) &&
                               path[directory.size()] == '/');
}

class Walker {
 public:
  Walker(const Excludes& excludes, const Selection* selection, Visitor& visitor)
      : excludes_(excludes), selection_(selection), visitor_(visitor) {}

  void run(const DirectoryRef& root) {
    if (!visitor_.visit(root, "", DT_DIR, 0)) return;
    if (!enter(root, whole_selection(), 0, 1)) return;
    while (!stack_.empty()) {
      if (!step()) return;
    }
  }

 private:
  std::optional<Range> whole_selection() const {
    if (selection_ == nullptr) return std::nullopt;
    const auto& paths = selection_->paths();
    if (!paths.empty() && paths.front().empty()) return std::nullopt;  // "." is listed.
    return Range{0, paths.size()};
  }

  /// Visits the next name of the innermost directory, or leaves it.
  bool step() {
    Frame& frame = stack_.back();
    if (frame.next == frame.names.size()) return leave();
    const std::size_t i = frame.next++;
    const std::string name(frame.names.name(i));
    std::string path = join_path(frame.path, name);
    if (!excludes_.empty() && excludes_.match(path)) return true;
    unsigned char type = frame.names.type(i);
    if (type == DT_UNKNOWN) type = type_of(*frame.handle, name);
    if (type == DT_UNKNOWN) {
      return visitor_.failed(path, fail_errno(errno, path, "cannot stat").error());
    }
    const bool leads_on = !frame.ranges.empty() && frame.ranges[i].has_value();
    if (leads_on && type != DT_DIR) {
      return visitor_.failed(path,
                             fail_errno(ENOTDIR, path, "a listed path goes through it").error());
    }
    const double share = frame.share / static_cast<double>(frame.names.size());
    const double begin = frame.begin + share * static_cast<double>(i);
    if (!visitor_.visit(frame.handle, name, type, begin)) return false;
    if (type != DT_DIR) return true;
    return descend(name, path, begin, share);
  }

  bool descend(const std::string& name, const std::string& path, double begin, double share) {
    const Frame& frame = stack_.back();
    const auto range = frame.ranges.empty() ? std::optional<Range>() : frame.ranges[frame.next - 1];
    auto opened = open_at(frame.handle->fd.get(), name.c_str(), path);
    if (!opened) return visitor_.failed(path, std::move(opened).error());
    return enter(*opened, range, begin, share);
  }

  bool enter(const DirectoryRef& directory, std::optional<Range> range, double begin,
             double share) {
    Frame frame;
    frame.handle = directory;
    frame.path = directory->path;
    frame.device = directory->device;
    frame.inode = directory->inode;
    frame.begin = begin;
    frame.share = share;
    if (range) {
      add_selected(frame, *range);
    } else {
      auto names = read_names(*directory);
      if (!names) return visitor_.failed(frame.path, std::move(names).error());
      frame.names = std::move(*names);
    }
    if (stack_.size() >= kOpenAncestors) stack_[stack_.size() - kOpenAncestors].handle.reset();
    stack_.push_back(std::move(frame));
    return true;
  }

  /// Names of `frame` that lead to selected paths; these are sorted, so the names come sorted.
  void add_selected(Frame& frame, Range range) {
    const auto& paths = selection_->paths();
    const std::size_t skip = frame.path.empty() ? 0 : frame.path.size() + 1;
    for (std::size_t i = range.begin; i < range.end;) {
      const std::string name = paths[i].substr(skip, paths[i].find('/', skip) - skip);
      const std::string path = join_path(frame.path, name);
      const std::size_t first = i;
      const bool whole = paths[i] == path;
      while (i < range.end && (paths[i] == path || is_below(paths[i], path))) ++i;
      frame.names.add(name, DT_UNKNOWN);
      frame.ranges.push_back(whole ? std::nullopt : std::optional<Range>({first, i}));
    }
  }

  bool leave() {
    const Frame child = std::move(stack_.back());
    stack_.pop_back();
    if (stack_.empty() || stack_.back().handle) return true;
    return reopen(child, stack_.back());
  }

  /// Finds a closed directory again, as the parent of the one just left.
  bool reopen(const Frame& child, Frame& parent) {
    auto opened = open_at(child.handle->fd.get(), "..", parent.path);
    const bool same =
        opened && (*opened)->device == parent.device && (*opened)->inode == parent.inode;
    if (same) {
      parent.handle = std::move(*opened);
      return true;
    }
    const std::string path = parent.path;
    stack_.pop_back();
    Error error = opened
                      ? Error{ErrorKind::Io, 0,
                              path + ": was moved while it was read; nothing behind it is packed"}
                      : std::move(opened).error();
    // Nothing above can be found again either.
    stack_.clear();
    return visitor_.failed(path, std::move(error));
  }

  const Excludes& excludes_;
  const Selection* selection_;
  Visitor& visitor_;
  std::vector<Frame> stack_;
};

}  // namespace

std::string join_path(std::string_view parent, std::string_view name) {
  std::string path(parent);
  if (!parent.empty() && !name.empty()) path += '/';
  return path.append(name);
}

Result<Selection> Selection::create(const std::vector<std::string>& paths) {
  Selection selection;
  for (const std::string& path : paths) {
    auto clean = normalized_path(path);
    if (!clean || path.starts_with('/')) {
      return fail(ErrorKind::Invalid,
                  fmt::format("{}: listed paths must be relative to SOURCE, without '..'", path));
    }
    selection.paths_.push_back(std::move(*clean));
  }
  auto& sorted = selection.paths_;
  std::ranges::sort(sorted, walk_order);
  const auto covered = [](const std::string& above, const std::string& path) {
    return path == above || is_below(path, above);
  };
  sorted.erase(std::unique(sorted.begin(), sorted.end(), covered), sorted.end());
  return selection;
}

Result<DirectoryRef> open_root(const std::string& source) {
  auto handle = std::make_shared<DirectoryHandle>();
  handle->fd.reset(::open(source.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat status = {};
  if (!handle->fd || ::fstat(handle->fd.get(), &status) != 0) {
    return fail_errno(errno, source, "cannot open the directory");
  }
  handle->device = status.st_dev;
  handle->inode = status.st_ino;
  return handle;
}

void walk(const DirectoryRef& root, const Excludes& excludes, const Selection* selection,
          Visitor& visitor) {
  Walker(excludes, selection, visitor).run(root);
}

}  // namespace shardfs
