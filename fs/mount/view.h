// How the entries of an archive appear in one mount: inode numbers, owners and modes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <sys/stat.h>

#include "fs/tree/stable_numbers.h"
#include "fs/tree/tree.h"

namespace shardfs {

/// Who owns the files that a mount shows.
struct Ownership {
  /// True: ids and modes as packed. False: everything belongs to who mounts, with u+rX.
  bool as_archived = false;
  std::optional<uid_t> uid = {};  ///< takes precedence over either
  std::optional<gid_t> gid = {};
  mode_t umask = 0;  ///< permission bits taken away from everything but symlinks
};

/// Inode numbers that stay as an archive is scanned, for the entries of one index.
class InodeNumbers {
 public:
  InodeNumbers(std::shared_ptr<const StableNumbers> stable, std::uint64_t entries);

  [[nodiscard]] Entry entry(std::uint64_t inode) const;
  [[nodiscard]] std::uint64_t inode(Entry entry) const {
    return entry < inodes_.size() ? inodes_[entry] : 0;
  }

 private:
  /// Those of directories begin there, those of other members at 2.
  static constexpr std::uint64_t kDirectories = std::uint64_t{1} << 33;
  static constexpr std::uint64_t kMembers = 2;

  std::shared_ptr<const StableNumbers> stable_;
  std::vector<std::uint64_t> inodes_;  ///< by entry
};

/// Immutable; any thread.
class View {
 public:
  /// `root` is the directory shown as root; what lies outside it is not shown. `numbers`: null but
  /// for an archive that is, or was, shown while it is scanned.
  View(Entry root, const Ownership& ownership,
       std::shared_ptr<const InodeNumbers> numbers = nullptr);

  [[nodiscard]] Entry root() const { return root_; }

  /// The entry behind an inode number of the mount. Numbers that no reply gave out may give an
  /// entry that is not there: Tree answers those with an error.
  [[nodiscard]] Entry entry(std::uint64_t inode) const;
  /// 1 for the root, entry + 1 for everything else where there are no other numbers. `entry` owns
  /// its inode (Tree::inode).
  [[nodiscard]] std::uint64_t inode(Entry entry) const;

  /// What stat() shows.
  [[nodiscard]] struct stat stat(const Attributes& attributes) const;

 private:
  [[nodiscard]] mode_t mode(mode_t archived) const;

  Entry root_;
  Ownership ownership_;
  uid_t uid_;
  gid_t gid_;
  std::shared_ptr<const InodeNumbers> numbers_;
};

}  // namespace shardfs
