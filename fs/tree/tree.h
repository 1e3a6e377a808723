// The immutable directory tree, served from the arrays of an index as they are.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/result.h"
#include "fs/tree/index.h"
#include "fs/tree/names.h"
#include "fs/tree/packed_column.h"

namespace shardfs {

/// A name in the tree. 0 is the root; inode number = entry + 1.
using Entry = std::uint32_t;
inline constexpr Entry kRoot = 0;

struct Time {
  std::int64_t seconds = 0;       ///< since 1970, may be negative
  std::uint32_t nanoseconds = 0;  ///< 0 to 999,999,999
  friend bool operator==(const Time&, const Time&) = default;
};

/// What stat() tells of an inode. Sizes in bytes.
struct Attributes {
  Entry inode = 0;         ///< The entry that hard links share; `inode + 1` is st_ino.
  std::uint32_t mode = 0;  ///< with type bits, as in stat(2)
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t links = 1;
  std::uint32_t device_major = 0, device_minor = 0;
  std::uint64_t size = 0;    ///< regular: bytes; symlink: length of its text; directory: 0
  std::uint64_t stored = 0;  ///< size less holes
  Time mtime;
};

struct Xattr {
  std::string_view name;
  ByteSpan value;
};

struct Hole {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  friend bool operator==(const Hole&, const Hole&) = default;
};

/// A view over an Index, which must outlive it. Immutable: every member may be called by any number
/// of threads. An index is checked against accidents by its checksums, and against malice here: no
/// call reads outside its arrays or loops without end, whatever they hold; where an array is
/// inconsistent the call fails with Corrupt.
class Tree {
 public:
  /// Checks the structure: lengths, order of directories and name blocks, group headers. Cost grows
  /// with directories and groups of 64 entries, not with entries.
  [[nodiscard]] static Result<Tree> open(const Index& index);

  [[nodiscard]] std::uint64_t entries() const { return entry_count_; }

  /// The child of `directory` called `name`; NotFound, or Invalid if `directory` is none.
  [[nodiscard]] Result<Entry> lookup(Entry directory, std::string_view name) const;

  /// Follows `path` ("a/b/c", no leading "/"; "" is the root) by names alone: symlinks are not
  /// resolved.
  [[nodiscard]] Result<Entry> find(std::string_view path) const;

  /// As find(), but follows symlinks as a mount would, the last one too; "." and ".." as well. Names
  /// what it finds by its own path: NotFound also for links that lead out of the tree, Invalid for
  /// more than kMostLinks of them.
  [[nodiscard]] Result<Entry> resolve(std::string_view path) const;
  static constexpr int kMostLinks = 40;  ///< as Linux: MAXSYMLINKS

  [[nodiscard]] Result<Attributes> attributes(Entry entry) const;

  /// The entry that owns the inode: `entry` itself unless it is a hard link.
  [[nodiscard]] Result<Entry> inode(Entry entry) const;

  /// "a/b/c" for messages and listings; "" for the root. For a hard link, the link's own path.
  [[nodiscard]] Result<std::string> path(Entry entry) const;

  /// The directory that holds `entry`; the root is its own parent.
  /// REQUIRES: entry < entries().
  [[nodiscard]] Entry parent(Entry entry) const;

  /// Symlink text.
  [[nodiscard]] Result<std::string_view> link(Entry entry) const;

  /// Extended attributes of the inode, sorted by name; usually none.
  [[nodiscard]] Result<std::vector<Xattr>> xattrs(Entry entry) const;

  /// Holes of a regular file in ascending order; usually none.
  [[nodiscard]] Result<std::vector<Hole>> holes(Entry entry) const;

  /// Position of a regular file's first byte in the tar stream, bytes.
  [[nodiscard]] Result<std::uint64_t> position(Entry entry) const;

  /// SIZES of an entry: bytes of a regular file, 0 for anything else. No hard link is followed.
  /// REQUIRES: entry < entries().
  [[nodiscard]] std::uint64_t file_size(Entry entry) const { return sizes_[entry]; }

  /// Calls visit(entry, name) for the children of `directory` from its `first`-th on, in order,
  /// until visit returns false. `name` lives during the call only. Invalid if `directory` is none.
  template <typename Visit>
  [[nodiscard]] Result<void> children(Entry directory, std::uint64_t first, Visit&& visit) const;

  /// First child and number of children of a directory.
  struct Range {
    Entry first = 0;
    std::uint32_t count = 0;
  };
  [[nodiscard]] Result<Range> child_range(Entry directory) const;

 private:
  /// A directory's row in DIRECTORIES, and where the next one's children begin.
  struct Directory {
    Entry entry = 0;
    Entry first = 0;
    std::uint32_t count = 0;
    std::uint32_t block = 0;  ///< number of its first name block
  };
  /// Rows of `stride` bytes that begin with an entry, sorted by it.
  struct Rows {
    ByteSpan bytes;
    std::size_t stride = 0;
    [[nodiscard]] std::size_t size() const { return bytes.size() / stride; }
    [[nodiscard]] const std::byte* row(std::size_t i) const { return bytes.data() + i * stride; }
    [[nodiscard]] Entry entry(std::size_t i) const { return load<Entry>(row(i)); }
    /// Number of rows in front of the first whose entry is `least` or more.
    [[nodiscard]] std::size_t rows_before(std::uint64_t least) const;
    [[nodiscard]] const std::byte* find(Entry entry) const;  ///< null if there is none
  };
  /// A run of bytes cut into pieces by an array of offsets.
  struct Blobs {
    ByteSpan offsets;
    ByteSpan bytes;
    [[nodiscard]] std::uint64_t size() const;
    [[nodiscard]] Result<ByteSpan> at(std::uint64_t number) const;
  };

  [[nodiscard]] Result<void> take_columns(const Index& index);
  [[nodiscard]] Result<void> take_tables(const Index& index);
  [[nodiscard]] Result<void> check_directories(std::uint64_t directories) const;
  [[nodiscard]] Result<void> check_name_blocks() const;
  [[nodiscard]] Result<void> check_attributes() const;

  [[nodiscard]] Result<void> check_entry(Entry entry) const;
  [[nodiscard]] Directory directory_row(std::size_t number) const;
  [[nodiscard]] Result<Directory> directory(Entry entry) const;
  /// Names of block `number`; a cursor without names if the block's place is impossible.
  [[nodiscard]] NameCursor name_block(std::uint32_t number) const;
  [[nodiscard]] Result<std::uint32_t> block_of(const Directory& in, std::string_view name) const;
  [[nodiscard]] Result<std::string> name(const Directory& in, Entry entry) const;
  [[nodiscard]] Result<std::uint32_t> mode(Entry inode) const;
  [[nodiscard]] Result<void> add_links(Attributes& attributes) const;
  [[nodiscard]] Result<void> add_size(Attributes& attributes) const;
  [[nodiscard]] Result<std::vector<Hole>> holes_of(Entry inode, std::uint64_t size) const;
  [[nodiscard]] static std::unexpected<Error> corrupt(std::string_view what, Entry entry);

  std::uint64_t entry_count_ = 0;
  Rows directories_;  ///< without the sentinel
  ByteSpan directory_table_;
  Blobs name_blocks_;
  Extensions extensions_;
  Rows attributes_;
  PackedColumn entry_attributes_, sizes_, seconds_, nanoseconds_, targets_, positions_;
  Blobs links_, xattrs_;
  Rows link_counts_, xattr_entries_, hole_entries_, moved_;
  ByteSpan holes_;
};

template <typename Visit>
Result<void> Tree::children(Entry directory, std::uint64_t first, Visit&& visit) const {
  SHARDFS_TRY(const Directory parent, this->directory(directory));
  for (std::uint64_t i = first - first % kNamesPerBlock; i < parent.count;) {
    NameCursor names = name_block(parent.block + static_cast<std::uint32_t>(i / kNamesPerBlock));
    const std::uint64_t end = std::min<std::uint64_t>(i + kNamesPerBlock, parent.count);
    for (; i < end; ++i) {
      const Entry child = parent.first + static_cast<Entry>(i);
      if (!names.next() || !is_valid_name(names.name())) return corrupt("impossible name", child);
      if (i >= first && !visit(child, names.name())) return {};
    }
  }
  return {};
}

}  // namespace shardfs
