// What a scan of an archive of another format finds out: the tree, and where the data lie.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "fs/archive/foreign/codec.h"
#include "fs/archive/foreign/sidecar.h"
#include "fs/base/result.h"
#include "fs/tree/builder.h"
#include "fs/tree/index.h"

namespace shardfs {

/// How fast any byte of an archive can be had.
enum class Access : std::uint8_t {
  Random = 0,     ///< at once
  Frame = 1,      ///< after decoding a block
  Sequential = 2  ///< after decoding all that is before
};

/// Facts about an archive that its index keeps.
struct ForeignFacts {
  std::string format;  ///< as `shardfs info` names it: "tar", "tar.gz", "zip", "squashfs", …
  Access access = Access::Random;
};

/// Collects the members of an archive and the blocks that hold their data, and makes an index of
/// them in which data are found as in a shard: by a position in a logical stream.
///
/// The logical stream is laid out here, as a row of blocks. A block is a range of the archive's
/// file and the codec that made it. A file is a range of the stream that begins at a multiple of
/// 512; between blocks the stream may have gaps, where nothing is. One thread at a time. About 40
/// bytes a block are kept. A copy is for an index of what has been found so far (TreeBuilder).
class LayoutBuilder {
 public:
  /// Position of the next block, bytes.
  [[nodiscard]] std::uint64_t end() const { return end_; }

  /// Leaves a gap, so that the next block begins at a multiple of 512 and a file there is where
  /// POSITIONS expects it, behind a header: it costs no bits in the index then.
  void begin_file() {
    const std::uint64_t from = std::exchange(end_, round_up(end_, 512) + 512);
    if (!rows_.empty()) rows_.back().gap = end_ - from;
  }

  /// Leaves a gap up to `position`, if that is further on.
  void skip_to(std::uint64_t position) {
    if (position <= end_) return;
    if (!rows_.empty()) rows_.back().gap += position - end_;
    end_ = position;
  }

  /// Appends a block: `packed` bytes at `offset` of the archive's file (bits for Bzip2), which give
  /// `decoded` bytes of the stream. Returns the position of its first byte. `packed` may be more
  /// than the block has; `decoded` too for Squashfs, where a reader asks for no more than there is.
  std::uint64_t add(Coder coder, std::uint64_t offset, std::uint64_t packed, std::uint64_t decoded);

  /// Tells what the block added last needs to begin inside a stream.
  void set_start(const BlockStart& start);

  /// Notes the checksum of piece `number` of the stream, as it is decoded (pieces.h).
  void set_piece_sum(std::uint64_t number, std::uint64_t sum);

  /// A member as TreeBuilder::add takes it, but more is put up with than in a shard: one whose
  /// path, owner, time or link cannot be is left out, and told of by left_out(). Hard links to
  /// what is not there are left out at the end.
  /// Returns its number; none if it was left out.
  std::optional<std::uint32_t> add_member(const Member& member);
  /// The same with its data, a range of the stream that begins at a multiple of 512.
  void add_file(const Member& member, std::uint64_t position);
  /// Tells where the data of a member are that was added before: a multiple of 512. For those whose
  /// blocks come later.
  void set_position(std::uint32_t number, std::uint64_t position) {
    tree_.set_data(number, position, {});
  }
  /// Puts a member, or what else is not as it should be, on the list of what is left out.
  void leave_out(std::string why);

  /// The archive has a shard's index in it.
  void note_shard_index() { has_shard_index_ = true; }
  [[nodiscard]] bool has_shard_index() const { return has_shard_index_; }

  /// Members that are not in the tree, with the reason: "PATH: WHAT"; the first of them only.
  [[nodiscard]] const std::vector<std::string>& left_out() const { return left_out_; }
  [[nodiscard]] std::uint64_t left_out_count() const { return left_out_count_; }
  static constexpr std::size_t kMaxLeftOutNamed = 16;

  /// The index, as in FORMAT.md, of an archive in this state. The builder is empty then. `stable`
  /// may be null.
  [[nodiscard]] Result<Index> finish(const ForeignFacts& facts, const ArchiveState& state,
                                     StableNumbers* stable = nullptr);

 private:
  struct Row {
    std::uint64_t offset = 0, packed = 0, position = 0;
    std::uint64_t gap = 0;  ///< of the stream, behind it
    std::uint8_t coder = 0;
  };

  TreeBuilder tree_;
  std::deque<Row> rows_;
  std::vector<Coder> coders_;
  Bytes starts_;  ///< rows of BLOCK_STARTS
  Bytes windows_;
  Bytes piece_sums_;
  std::vector<std::string> left_out_;
  std::uint64_t left_out_count_ = 0;
  bool has_shard_index_ = false;
  std::uint64_t end_ = 0;
};

/// What an archive that is still being scanned can be known by, a part of it at a time.
struct PartialScan {
  /// Whether the scan is to end.
  std::function<bool()> stopped;
  /// Whether somebody waits for more than there has been.
  std::function<bool()> wanted;
  /// Takes a layout of what has been found so far; blocks that are not complete may be missing.
  std::function<void(LayoutBuilder, const ForeignFacts&)> take;
};

}  // namespace shardfs
