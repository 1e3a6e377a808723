// Collects the members of an archive, in archive order, and makes an index of them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fs/base/bytes.h"
#include "fs/base/result.h"
#include "fs/tree/index.h"
#include "fs/tree/stable_numbers.h"
#include "fs/tree/tree.h"

namespace shardfs {

/// One member of an archive: everything about a file but its data.
struct Member {
  std::string
      path;  ///< relative; no leading or trailing "/", no "." or ".." component; "" is the root
  std::uint32_t mode = 0;  ///< with type bits; meaningless for a hard link
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  Time mtime;
  std::uint64_t size = 0;  ///< regular files only
  bool hard_link = false;  ///< another name of the member whose path is `link`
  std::string link;        ///< symlink text, or hard link target's path
  std::uint32_t device_major = 0, device_minor = 0;
  std::vector<std::pair<std::string, Bytes>> xattrs;  ///< sorted by name
  std::vector<Hole> holes;

  [[nodiscard]] bool is_regular() const;
  [[nodiscard]] bool is_directory() const;
  [[nodiscard]] bool is_symlink() const;
};

/// The frames of a `.tar.zst`, in order.
struct Frames {
  std::vector<std::uint64_t> offsets;    ///< in the file, bytes; one more as sentinel
  std::vector<std::uint64_t> positions;  ///< in the tar stream, bytes; one more as sentinel
  std::vector<std::uint64_t> checksums;  ///< XXH3-64 of each compressed frame
};

/// The sections of an index to be, without superblock.
struct IndexParts {
  Superblock
      superblock;  ///< container and the counts; the rest is the container writer's to fill in
  std::vector<std::pair<Section, Bytes>> sections;  ///< ascending by type
  /// The entries of the numbers that finish() was asked about; 2^32 - 1 for a member that a later
  /// one of the same path replaced.
  std::vector<Entry> wanted;

  /// Bytes of the whole index.
  [[nodiscard]] std::uint64_t index_size() const;
  /// Puts `bytes` in as section `s`, in its place by type. REQUIRES: not there yet.
  void insert(Section s, Bytes bytes);
};

/// Bounded memory: about 80 bytes a member and its name, plus 8 a piece; nothing else is kept.
/// finish() takes some 35 more a member. One thread at a time. Of two members with one path the
/// last wins, as in tar; directories of one path are one.
class TreeBuilder {
 public:
  TreeBuilder();
  /// A copy is for finish() alone, and for the thread of the original: an index of what has been
  /// added so far.
  TreeBuilder(const TreeBuilder& other);
  TreeBuilder(TreeBuilder&&) noexcept;
  TreeBuilder& operator=(TreeBuilder&&) noexcept;
  ~TreeBuilder();

  /// Adds a member and gives it a number (0, 1, … in order of calls). Missing parent directories
  /// are made up: mode 0755, owner and time of this member. Invalid: a path that is not as Member
  /// says, a component over 255 or a path over 4,095 bytes, an impossible attribute.
  [[nodiscard]] Result<std::uint32_t> add(const Member& member);

  /// Tells where a regular file's data stands in the tar stream (bytes, a multiple of 512), once
  /// that is known, and the XXH3-64 of each of its pieces in order, all of them (empty for
  /// `.tar.zst`).
  void set_data(std::uint32_t number, std::uint64_t position,
                std::span<const std::uint64_t> piece_checksums);

  /// Puts up with what archives of other origin hold: a hard link whose target is not there, or a
  /// member in what is no directory, is left out by finish(), and `note("PATH: WHAT")` called.
  void leave_out_impossible(std::function<void(const std::string&)> note);

  /// Members added so far.
  [[nodiscard]] std::uint64_t size() const;

  /// The index's sections (without MOVED), whose bytes depend on the members added only. `frames`
  /// is null for `.tar`. `wanted`: numbers whose entries the caller needs. Invalid: a hard link
  /// whose target is not there, a member in what is no directory, a file whose data was not told,
  /// or a limit of the format; each named. Called once; the builder is empty afterwards. `stable`
  /// may be null.
  [[nodiscard]] Result<IndexParts> finish(const Frames* frames,
                                          std::span<const std::uint32_t> wanted,
                                          StableNumbers* stable = nullptr);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace shardfs
