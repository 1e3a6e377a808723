// Serves archives of other formats by an index that a scan has made.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <semaphore>
#include <span>
#include <string_view>
#include <vector>

#include "fs/archive/block_cache.h"
#include "fs/archive/foreign/block_table.h"
#include "fs/archive/foreign/layout.h"
#include "fs/archive/foreign/pieces.h"
#include "fs/archive/indexed_archive.h"
#include "fs/archive/libarchive/member_reader.h"

namespace shardfs {

/// What is odd about an archive.
struct Remarks {
  std::vector<std::string> notes;  ///< as Archive::notes()
  bool was_shard = false;          ///< it has a shard's index, which is not used
};

class ForeignArchive final : public IndexedArchive {
 public:
  /// `index` as LayoutBuilder::finish() gave it, and `numbers` if they will be asked for. At most
  /// `cache_bytes` of decoded blocks are kept. Corrupt if its parts do not fit together.
  [[nodiscard]] static Result<std::unique_ptr<Archive>> open(
      std::shared_ptr<const ByteSource> source, Index index, Remarks remarks,
      std::uint64_t cache_bytes, std::shared_ptr<const StableNumbers> numbers = nullptr);

  /// The state of the archive that `index` was made for.
  [[nodiscard]] static ArchiveState state(const Index& index);

  [[nodiscard]] ArchiveInfo info() const override;
  [[nodiscard]] const std::vector<std::string>& notes() const override { return remarks_.notes; }
  [[nodiscard]] std::shared_ptr<const StableNumbers> numbers() const override { return numbers_; }
  Result<void> window(Entry inode, std::uint64_t size, DecodedBlock& block) const override;
  std::optional<ByteSpan> contents_in(const DecodedBlock& block, Entry inode) const override {
    return located_in(block, inode);
  }
  Result<std::vector<Extent>> extents(Entry inode) const override;
  Result<VerifyReport> verify(unsigned threads,
                              const std::function<bool(std::uint64_t)>& progress) const override;

 private:
  /// A range of the stream that is being read, and where it goes to.
  struct Request {
    Entry inode = 0;
    std::uint64_t begin = 0, end = 0;
    std::byte* out = nullptr;
    std::shared_ptr<const DecodedBlock>* decoded = nullptr;
    Wait wait = Wait::Yes;
    bool in_slice = false;
    bool for_piece = false;  ///< what is kept has been looked for
  };
  /// A block that is too large to be decoded at once, decoded up to `position`.
  struct Cursor {
    std::uint64_t block = 0;
    std::uint64_t taken = 0;     ///< packed bytes that were read
    std::uint64_t position = 0;  ///< decoded bytes that were given
    Bytes input;                 ///< read, `used` bytes of them decoded
    std::size_t used = 0;
    std::unique_ptr<Decoder> decoder;
  };

  static constexpr std::ptrdiff_t kDecoding = 4;
  /// One of those that may decode at a time; of null all may.
  class Turn {
   public:
    explicit Turn(std::counting_semaphore<kDecoding>* of) : of_(of) {
      if (of_ != nullptr) of_->acquire();
    }
    ~Turn() {
      if (of_ != nullptr) of_->release();
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    std::counting_semaphore<kDecoding>* of_;
  };

  ForeignArchive(std::shared_ptr<const ByteSource> source, std::unique_ptr<Index> index, Tree tree,
                 BlockTable blocks, ForeignFacts facts, Remarks remarks, std::uint64_t cache_bytes,
                 std::shared_ptr<const StableNumbers> numbers)
      : IndexedArchive(std::move(source), std::move(index), std::move(tree)),
        blocks_(blocks),
        facts_(std::move(facts)),
        remarks_(std::move(remarks)),
        numbers_(std::move(numbers)),
        decoded_end_(end_of_decoded(blocks_)),
        cache_(cache_bytes),
        keeper_(this->source()),
        members_(this->source()) {}

  static std::uint64_t end_of_decoded(const BlockTable& blocks);
  [[nodiscard]] Result<std::size_t> read_some(
      Entry inode, std::uint64_t offset, std::span<std::byte> out, Wait wait,
      std::shared_ptr<const DecodedBlock>* decoded) const override;
  [[nodiscard]] Result<void> fill(Request& request) const;
  [[nodiscard]] Result<void> take(Request& request, std::uint64_t b, const ForeignBlock& block,
                                  std::uint64_t skip, std::span<std::byte> out) const;
  [[nodiscard]] Result<void> read_source(const Request& request, std::uint64_t b,
                                         std::uint64_t offset, std::span<std::byte> out) const;
  [[nodiscard]] Result<void> take_slice(const Request& request, std::uint64_t b,
                                        const ForeignBlock& block, std::uint64_t skip,
                                        std::span<std::byte> out) const;
  [[nodiscard]] Result<void> take_decoded(const Request& request, std::uint64_t b,
                                          const ForeignBlock& block, std::uint64_t skip,
                                          std::span<std::byte> out) const;
  [[nodiscard]] bool is_kept(const ForeignBlock& block) const;
  [[nodiscard]] Result<void> take_kept(const Request& request, std::uint64_t position,
                                       std::span<std::byte> out) const;
  [[nodiscard]] Result<Piece> piece(const Request& request, std::uint64_t number) const;
  [[nodiscard]] Result<Piece> make_piece(const Request& request, std::uint64_t number) const;
  void note_passed(const Piece& piece) const;
  template <typename Decode>
  [[nodiscard]] auto decode_twice(const Request& request, std::uint64_t b,
                                  const ForeignBlock& block, const Decode& decode) const
      -> decltype(decode(ByteSpan{}));
  [[nodiscard]] Result<std::shared_ptr<const DecodedBlock>> decode(const Request& request,
                                                                   std::uint64_t b,
                                                                   const ForeignBlock& block,
                                                                   ByteSpan packed) const;
  [[nodiscard]] Result<void> take_whole(const Request& request, std::uint64_t b,
                                        const ForeignBlock& block, std::span<std::byte> out) const;
  [[nodiscard]] Result<Bytes> packed_block(const Request& request, std::uint64_t b,
                                           const ForeignBlock& block) const;
  [[nodiscard]] Result<void> read_again(const Request& request, std::uint64_t b,
                                        const ForeignBlock& block,
                                        std::span<std::byte> packed) const;
  [[nodiscard]] Result<BlockCache::Block> read_member(const Request& request, std::uint64_t b,
                                                      const ForeignBlock& block) const;
  [[nodiscard]] std::optional<std::uint64_t> block_of_member(std::uint64_t number) const;
  [[nodiscard]] Result<void> take_streamed(const Request& request, std::uint64_t b,
                                           const ForeignBlock& block, std::uint64_t skip,
                                           std::span<std::byte> out) const;
  [[nodiscard]] Result<void> advance(const Request& request, Cursor& cursor,
                                     const ForeignBlock& block, std::span<std::byte> out) const;
  [[nodiscard]] Result<void> append_extents(Entry inode, std::uint64_t begin, std::uint64_t end,
                                            bool in_slice, std::vector<Extent>& list) const;
  [[nodiscard]] std::unexpected<Error> bad(const Request& request, std::uint64_t b,
                                           const ForeignBlock& block, std::string_view what) const;

  /// Of a block that is not decoded at once, read at a time.
  static constexpr std::size_t kRequest = 1024 * 1024;
  /// Readers of large blocks that each go on where they were.
  static constexpr std::size_t kMaxCursors = 8;
  /// Who wants a block of at least this many bytes that another thread is reading waits for that
  /// one; and not more than kDecoding of them are decoded at a time, for each takes its room.
  static constexpr std::uint64_t kLarge = 512 * 1024;
  static constexpr std::size_t kReaders = 32;  ///< locks; blocks share them by number
  static constexpr std::uint64_t kPiece = std::uint64_t{1} << 63;

  BlockTable blocks_;
  ForeignFacts facts_;
  Remarks remarks_;
  std::shared_ptr<const StableNumbers> numbers_;
  std::uint64_t decoded_end_;  ///< of the stream as it is decoded; behind it are slices of it
  mutable BlockCache cache_;   ///< blocks by number, pieces by kPiece | number
  mutable PieceKeeper keeper_;
  mutable std::array<std::mutex, kReaders> readers_, piece_readers_;
  mutable std::counting_semaphore<kDecoding> decoding_{kDecoding};
  mutable std::mutex members_mutex_;
  mutable MemberReader members_;  ///< guarded by members_mutex_
  mutable std::mutex cursors_mutex_;
  mutable std::list<Cursor> cursors_;  ///< newest first; guarded by cursors_mutex_
};

}  // namespace shardfs
