// Serves NAME.tar.zst: data in independent frames, a checksum a frame.
#pragma once

#include "fs/archive/block_cache.h"
#include "fs/archive/shard/frame_table.h"
#include "fs/archive/shard/shard_archive.h"

namespace shardfs {

class ZstArchive final : public ShardArchive {
 public:
  /// Corrupt if the shard's parts do not fit together. `frames`: number of them, from the seek
  /// table.
  [[nodiscard]] static Result<std::unique_ptr<Archive>> open(OpenedShard shard,
                                                             std::uint64_t frames);

  Result<void> window(Entry inode, std::uint64_t size, DecodedBlock& block) const override;
  std::optional<ByteSpan> contents_in(const DecodedBlock& block, Entry inode) const override {
    return located_in(block, inode);
  }
  Result<std::vector<Extent>> extents(Entry inode) const override;
  Result<VerifyReport> verify(unsigned threads,
                              const std::function<bool(std::uint64_t)>& progress) const override;

 private:
  friend class ZstVerifier;

  /// The part of a file that is being read, in positions of the tar stream, and where it goes to.
  struct Request {
    Entry inode = 0;
    std::uint64_t begin = 0, end = 0;
    std::byte* out = nullptr;
    std::shared_ptr<const DecodedBlock>* decoded = nullptr;
    Wait wait = Wait::Yes;
  };

  ZstArchive(OpenedShard shard, FrameTable frames)
      : ShardArchive(std::move(shard)), frames_(frames), cache_(kCacheBytes) {}

  [[nodiscard]] Result<std::size_t> read_some(
      Entry inode, std::uint64_t offset, std::span<std::byte> out, Wait wait,
      std::shared_ptr<const DecodedBlock>* decoded) const override;
  [[nodiscard]] Result<void> fill(Request& request) const;
  [[nodiscard]] Result<std::uint64_t> batch_end(const Request& request, std::uint64_t first) const;
  [[nodiscard]] Result<void> read_batch(Request& request, std::uint64_t first,
                                        std::uint64_t last) const;
  [[nodiscard]] Result<void> check_frame(const Request& request, std::uint64_t f,
                                         std::span<std::byte> packed) const;
  [[nodiscard]] Result<void> take_frame(Request& request, std::uint64_t f,
                                        std::span<std::byte> packed) const;
  void copy(Request& request, const std::shared_ptr<const DecodedBlock>& block) const;

  static constexpr std::uint64_t kCacheBytes = 32 * 1024 * 1024;

  FrameTable frames_;
  mutable BlockCache cache_;
};

}  // namespace shardfs
