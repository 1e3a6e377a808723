// Serves NAME.tar: data in place, a checksum a piece.
#pragma once

#include "fs/archive/shard/data_map.h"
#include "fs/archive/shard/index_runs.h"
#include "fs/archive/shard/shard_archive.h"
#include "fs/archive/shard/trailer.h"

namespace shardfs {

class TarArchive final : public ShardArchive {
 public:
  /// Corrupt if the shard's parts do not fit together. `trailer` has been believed.
  [[nodiscard]] static Result<std::unique_ptr<Archive>> open(OpenedShard shard, Trailer trailer);

  Result<void> window(Entry inode, std::uint64_t size, DecodedBlock& block) const override;
  std::optional<ByteSpan> contents_in(const DecodedBlock& block, Entry inode) const override;
  Result<std::vector<Extent>> extents(Entry inode) const override;
  Result<VerifyReport> verify(unsigned threads,
                              const std::function<bool(std::uint64_t)>& progress) const override;

 private:
  friend class TarVerifier;

  TarArchive(OpenedShard shard, Trailer trailer)
      : ShardArchive(std::move(shard)), trailer_(std::move(trailer)) {}

  /// A file that is being read.
  struct File {
    Entry inode = 0;
    std::uint64_t size = 0;
    std::uint64_t position = 0;     ///< of its data in the archive
    std::uint64_t first_piece = 0;  ///< number of its first piece
    ByteSpan checksums;
  };

  [[nodiscard]] std::uint64_t first_piece(Entry inode) const;
  [[nodiscard]] Result<File> file(Entry inode, Wait wait) const;
  [[nodiscard]] Result<std::size_t> read_some(
      Entry inode, std::uint64_t offset, std::span<std::byte> out, Wait wait,
      std::shared_ptr<const DecodedBlock>* decoded) const override;
  [[nodiscard]] Result<std::size_t> read_from(const File& file, std::uint64_t offset,
                                              std::span<std::byte> out, Wait wait) const;
  /// The first of `file`'s pieces in `bytes` that is not as packed, counted from `piece`, the
  /// number of the first one there; none if all are.
  [[nodiscard]] static std::optional<std::uint64_t> damaged_piece(const File& file, ByteSpan bytes,
                                                                  std::uint64_t piece);
  /// Reads whole pieces from `offset`, a multiple of a piece, and checks them.
  [[nodiscard]] Result<void> read_pieces(const File& file, std::uint64_t offset,
                                         std::span<std::byte> out, Wait wait) const;

  Trailer trailer_;
};

}  // namespace shardfs
