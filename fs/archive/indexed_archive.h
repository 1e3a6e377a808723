// What the readers of all formats share: a source, an index, and the tree that lies in it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "fs/archive/archive.h"
#include "fs/base/byte_source.h"
#include "fs/base/result.h"
#include "fs/tree/index.h"
#include "fs/tree/tree.h"

namespace shardfs {

/// An archive whose files are ranges of a logical stream, at the positions that its index has.
class IndexedArchive : public Archive {
 public:
  [[nodiscard]] const Tree& tree() const final { return tree_; }
  [[nodiscard]] const ByteSource& source() const final { return *source_; }
  [[nodiscard]] std::uint64_t stream_size() const final { return superblock().tar_size; }
  [[nodiscard]] bool holds(const DecodedBlock& block, Entry inode) const final {
    return located_in(block, inode).has_value();
  }
  [[nodiscard]] Result<std::size_t> read(Entry inode, std::uint64_t offset,
                                         std::span<std::byte> out,
                                         std::shared_ptr<const DecodedBlock>* decoded) const final {
    return read_some(inode, offset, out, Wait::Yes, decoded);
  }
  [[nodiscard]] Result<std::size_t> try_read(
      Entry inode, std::uint64_t offset, std::span<std::byte> out,
      std::shared_ptr<const DecodedBlock>* decoded) const final {
    return read_some(inode, offset, out, Wait::No, decoded);
  }

 protected:
  /// `tree` refers to *index.
  IndexedArchive(std::shared_ptr<const ByteSource> source, std::unique_ptr<Index> index, Tree tree)
      : source_(std::move(source)), index_(std::move(index)), tree_(std::move(tree)) {}

  /// read() and try_read().
  [[nodiscard]] virtual Result<std::size_t> read_some(
      Entry inode, std::uint64_t offset, std::span<std::byte> out, Wait wait,
      std::shared_ptr<const DecodedBlock>* decoded) const = 0;

  [[nodiscard]] const Index& index() const { return *index_; }
  [[nodiscard]] const Superblock& superblock() const { return index_->superblock; }

  /// What the index tells of itself; format, container, access and checksum are the caller's.
  [[nodiscard]] ArchiveInfo counts() const;

  /// "ARCHIVE: FILE: WHAT (UNIT n, byte b of ARCHIVE)", Corrupt. `unit` is "piece", "frame" or
  /// "block".
  [[nodiscard]] std::unexpected<Error> damaged(Entry inode, std::string_view what,
                                               std::string_view unit, std::uint64_t n,
                                               std::uint64_t byte) const;
  /// A source's error, with the file and piece that were being read.
  [[nodiscard]] std::unexpected<Error> cannot_read(Error error, Entry inode, std::string_view unit,
                                                   std::uint64_t n, std::uint64_t byte) const;
  /// Path of an entry for messages.
  [[nodiscard]] std::string path_of(Entry entry) const;

  /// Bytes that a read of `wanted` bytes from `offset` of `inode` gives. Invalid: no such entry.
  [[nodiscard]] Result<std::uint64_t> readable(Entry inode, std::uint64_t offset,
                                               std::uint64_t wanted) const;

  /// Where the content of `inode` lies in `block`, if it is there whole.
  [[nodiscard]] std::optional<ByteSpan> located_in(const DecodedBlock& block, Entry inode) const;

  /// The stretch of the stream that window() is to give; it ends before `limit`.
  struct Stretch {
    std::uint64_t begin = 0, end = 0;
  };
  [[nodiscard]] Result<Stretch> stretch(Entry inode, std::uint64_t size, std::uint64_t limit) const;

  /// Position of a file's data in the stream. Corrupt if they do not lie before `limit`.
  [[nodiscard]] Result<std::uint64_t> data_position(Entry inode, std::uint64_t limit) const;

 private:
  std::shared_ptr<const ByteSource> source_;
  std::unique_ptr<Index> index_;
  Tree tree_;
};

}  // namespace shardfs
