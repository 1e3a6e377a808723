#include <algorithm>
#include <memory>
#include <string>

#include <fmt/format.h>
#include <lz4frame.h>

#include "fs/archive/compressed/frame_stream.h"
#include "fs/archive/compressed/streams.h"
#include "fs/archive/foreign/lz4_frame.h"

namespace shardfs {

namespace {

struct FreeLz4 {
  void operator()(LZ4F_dctx* decoder) const { LZ4F_freeDecompressionContext(decoder); }
};
using Lz4Context = std::unique_ptr<LZ4F_dctx, FreeLz4>;

/// Where the blocks of a frame lie, as the bytes go by.
class Lz4Blocks {
 public:
  /// `start`: at least the first 6 bytes of a frame.
  void begin(ByteSpan start) {
    const auto flags = std::to_integer<unsigned>(start[4]);
    independent_ = (flags & (lz4_flag::kIndependent | lz4_flag::kDictionary)) ==
                   unsigned{lz4_flag::kIndependent};
    kind_.largest = std::to_integer<unsigned>(start[5]) >> 4 & 7;
    kind_.checksums = (flags & lz4_flag::kBlockChecksums) != 0;
    left_ = 7 + ((flags & lz4_flag::kContentSize) != 0 ? 8 : 0);
    size_bytes_ = kSizeBytes;
  }

  /// Whether there are any that can be decoded alone.
  [[nodiscard]] bool independent() const { return independent_; }
  [[nodiscard]] const Lz4BlockKind& kind() const { return kind_; }
  /// Bytes up to the next place where something ends: the header, a block's size, a block.
  [[nodiscard]] std::uint64_t left() const {
    return size_bytes_ < kSizeBytes ? kSizeBytes - size_bytes_ : left_;
  }
  /// REQUIRES: not more than left().
  void pass(ByteSpan bytes) {
    if (size_bytes_ == kSizeBytes) {
      left_ -= bytes.size();
      return;
    }
    for (const std::byte b : bytes) size_ |= std::to_integer<std::uint32_t>(b) << 8 * size_bytes_++;
    if (size_bytes_ < kSizeBytes) return;
    constexpr std::uint32_t kStored = 0x8000'0000;
    // Behind the last block there is a size of 0, and a checksum perhaps.
    left_ = size_ == 0 ? UINT64_MAX
                       : std::uint64_t{size_ & ~kStored} + (kind_.checksums ? kChecksumBytes : 0);
  }
  /// After a block, or the header: a block's size comes next.
  void next() {
    size_ = 0;
    size_bytes_ = 0;
  }

 private:
  static constexpr unsigned kSizeBytes = 4, kChecksumBytes = 4;

  bool independent_ = false;
  Lz4BlockKind kind_;
  std::uint64_t left_ = 0;   ///< bytes of the header, or of a block behind its size
  std::uint32_t size_ = 0;   ///< of a block, as far as it has come
  unsigned size_bytes_ = 0;  ///< that have come
};

class Lz4Stream final : public FrameStream {
 public:
  Lz4Stream(const ByteSource& source, LayoutBuilder& layout, Lz4Context decoder)
      : FrameStream(source, layout, Codec::Lz4, kLz4Magic), decoder_(std::move(decoder)) {}
  [[nodiscard]] std::string name() const override { return "lz4"; }

 protected:
  void begin(ByteSpan start) override { in_frame_.begin(start); }
  [[nodiscard]] Result<Step> step(ByteSpan in, std::span<std::byte> out) override;
  [[nodiscard]] Coder blocks() const override {
    return {Codec::Lz4Blocks, in_frame_.kind().parameter()};
  }

 private:
  Lz4Context decoder_;
  Lz4Blocks in_frame_;
};

/// Stops where blocks end: the library itself would go on.
Result<FrameStream::Step> Lz4Stream::step(ByteSpan in, std::span<std::byte> out) {
  if (in_frame_.independent()) in = in.first(std::min<std::uint64_t>(in.size(), in_frame_.left()));
  Step did{.taken = in.size(), .given = out.size()};
  const std::size_t left =
      LZ4F_decompress(decoder_.get(), out.data(), &did.given, in.data(), &did.taken, nullptr);
  if (LZ4F_isError(left))
    return input_.damaged(fmt::format("damaged lz4 data ({})", LZ4F_getErrorName(left)));
  did.done = left == 0;
  if (did.done || !in_frame_.independent()) return did;
  in_frame_.pass(in.first(did.taken));
  // Of a block that was taken whole some may be still to be given, if there was no more room.
  did.enterable = in_frame_.left() == 0 && did.given < out.size();
  if (did.enterable) in_frame_.next();
  return did;
}

}  // namespace

StreamResult lz4_stream(const ByteSource& source, LayoutBuilder& layout) {
  LZ4F_dctx* decoder = nullptr;
  if (LZ4F_isError(LZ4F_createDecompressionContext(&decoder, LZ4F_VERSION)))
    return ForwardInput(source).no_memory();
  return std::make_unique<Lz4Stream>(source, layout, Lz4Context(decoder));
}

}  // namespace shardfs
