// What a TreeBuilder has collected, and the steps that make an index of it. Internal to fs/tree.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <memory_resource>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fs/base/checksum.h"
#include "fs/tree/builder.h"

namespace shardfs {

/// A hash table of numbers whose keys are kept by the caller. Open addressing, 8 bytes a slot.
class NumberTable {
 public:
  static constexpr std::uint32_t kNone = 0xffffffff;
  /// The number whose key `is_it(number)` says is the wanted one; kNone if there is none.
  template <typename IsIt>
  [[nodiscard]] std::uint32_t find(std::uint64_t hash, IsIt&& is_it) const {
    if (slots_.empty()) return kNone;
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t i = hash & mask;; i = (i + 1) & mask) {
      const Slot& slot = slots_[i];
      if (slot.number == kNone) return kNone;
      if (slot.hash == static_cast<std::uint32_t>(hash) && is_it(slot.number)) return slot.number;
    }
  }
  /// REQUIRES: find() gave kNone for this key.
  void insert(std::uint64_t hash, std::uint32_t number);

 private:
  struct Slot {
    std::uint32_t hash = 0;
    std::uint32_t number = kNone;
  };
  void place(Slot slot);

  std::vector<Slot> slots_;
  std::size_t used_ = 0;
};

/// Byte strings kept once each, numbered from 0 in order of first use. Number 0 is given at the
/// start.
class BlobPool {
 public:
  explicit BlobPool(ByteSpan first);
  std::uint32_t add(ByteSpan blob);
  [[nodiscard]] ByteSpan operator[](std::uint32_t number) const;
  [[nodiscard]] std::size_t size() const { return ends_.size(); }

 private:
  Bytes bytes_;
  std::vector<std::uint64_t> ends_;
  NumberTable table_;
};

/// A name of the tree to be. The flags of its type are in the mode of its tuple.
struct Record {
  const char* name = nullptr;
  std::uint64_t size = 0;
  std::uint64_t position = 0;  ///< in blocks; kNoPosition until set_data()
  std::uint64_t piece = 0;     ///< number of its first one in BuilderState::pieces
  /// Symlink: number of its text. Hard link: likewise, until resolved; then the record it leads to.
  /// Directory: its number. Device: as in TARGETS.
  std::uint64_t target = 0;
  std::int64_t seconds = 0;
  std::uint32_t nanoseconds = 0;
  std::uint32_t directory = 0;  ///< number of the one it is in
  std::uint32_t tuple = 0;      ///< number in BuilderState::tuples; 0 is a hard link
  std::uint32_t xattrs = 0;     ///< number in BuilderState::xattrs
  std::uint32_t holes = 0;      ///< number in BuilderState::holes
  std::uint8_t name_size = 0;
  bool replaced = false;  ///< a later member has its path
  bool resolved = false;  ///< hard link: target is a record
  bool visited = false;   ///< hard link: being resolved

  static constexpr std::uint64_t kNoPosition = ~std::uint64_t{0};
  [[nodiscard]] std::string_view text() const { return {name, name_size}; }
  [[nodiscard]] bool is_hard_link() const { return tuple == 0; }
};

/// A directory, there as a member or only through what is in it.
struct DirectoryRecord {
  const char* name = nullptr;
  Time mtime;  ///< time and tuple are those of a made-up one
  std::uint32_t tuple = 0;
  std::uint32_t parent = 0;
  std::uint32_t record = NumberTable::kNone;  ///< the last member that is this directory
  std::uint8_t name_size = 0;
  bool has_children = false;

  [[nodiscard]] std::string_view text() const { return {name, name_size}; }
};

/// Everything collected. Records 0 to members − 1 are the members by number; made-up directories
/// follow them at the end.
struct BuilderState {
  BuilderState();

  /// Copies share it: nothing in it is ever changed.
  std::shared_ptr<std::pmr::monotonic_buffer_resource> names =
      std::make_shared<std::pmr::monotonic_buffer_resource>();
  std::deque<Record> records;
  std::deque<DirectoryRecord> directories;  ///< 0 is the root
  NumberTable directory_table;
  BlobPool tuples;  ///< rows of ATTRIBUTES
  BlobPool links;   ///< symlink texts and hard link targets
  BlobPool xattrs;  ///< sets as in XATTRS; 0 is none
  BlobPool holes;   ///< rows of HOLES; 0 is none
  std::vector<std::uint64_t> pieces;
  std::string last_parent;  ///< path of the directory of the member before, and its number
  std::uint32_t last_parent_number = 0;
  /// Takes what is wrong with a member that is left out; none: such a member is an error.
  std::function<void(const std::string&)> note_left_out;

  [[nodiscard]] std::uint32_t mode(const Record& record) const;
  [[nodiscard]] bool is_directory(const Record& record) const;
  [[nodiscard]] bool is_regular(const Record& record) const;
  [[nodiscard]] bool is_symlink(const Record& record) const;
  /// For messages.
  [[nodiscard]] std::string path(const Record& record) const;
  /// The directory `name` in directory `parent`; kNone if there is none.
  [[nodiscard]] std::uint32_t find_directory(std::uint32_t parent, std::string_view name) const;
  /// Like the above for a path; "" is the root.
  [[nodiscard]] std::uint32_t find_directory(std::string_view path) const;
};

[[nodiscard]] std::uint64_t hash_name(std::uint32_t parent, std::string_view name);

/// The tree's entries in their order.
struct Ordered {
  std::vector<std::uint32_t> record_of;    ///< by entry
  std::vector<std::uint32_t> entry_of;     ///< by record; kNoEntry for a replaced one
  std::vector<std::uint32_t> directories;  ///< records, in order of entries

  static constexpr std::uint32_t kNoEntry = 0xffffffff;
};

/// Sorts, drops what has been replaced, and resolves hard links. Errors as TreeBuilder::finish().
[[nodiscard]] Result<Ordered> order_entries(BuilderState& state);

/// Makes the sections of it. Frees `state`'s parts as it goes.
[[nodiscard]] Result<IndexParts> encode_sections(BuilderState& state, Ordered ordered,
                                                 const Frames* frames);

}  // namespace shardfs
