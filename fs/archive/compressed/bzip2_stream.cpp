#include <memory>
#include <string>

#include <bzlib.h>
#include <fmt/format.h>

#include "fs/archive/compressed/pass.h"
#include "fs/archive/compressed/streams.h"

namespace shardfs {

namespace {

constexpr std::size_t kHeader = 4;  ///< "BZh" and the level
constexpr std::uint64_t kBlockMagic = 0x314159265359, kEndMagic = 0x177245385090;

/// Finds the blocks without looking for their magic, which their data may contain: libbzip2 takes
/// all of a block before it gives a byte, and no byte of the input that it does not need. With no
/// room for its output it stops right behind a block; only where in that byte has to be found out.
class Bzip2Stream final : public StreamPass {
 public:
  Bzip2Stream(const ByteSource& source, LayoutBuilder& layout)
      : StreamPass(source, layout), out_(kDecodedStep) {}
  ~Bzip2Stream() override { BZ2_bzDecompressEnd(&bzip2_); }
  Bzip2Stream(const Bzip2Stream&) = delete;
  Bzip2Stream& operator=(const Bzip2Stream&) = delete;

  [[nodiscard]] std::string name() const override { return "bz2"; }

 protected:
  [[nodiscard]] Result<ByteSpan> advance() override;

 private:
  enum class State : std::uint8_t { Between, AtBlock, InBlock };

  [[nodiscard]] Result<bool> begin_stream();
  [[nodiscard]] Result<void> read_block();
  [[nodiscard]] Result<std::uint64_t> bit_behind_block();
  [[nodiscard]] Result<ByteSpan> give();
  [[nodiscard]] std::unexpected<Error> error(int answer) const;

  bz_stream bzip2_ = {};
  Bytes out_;
  State state_ = State::Between;  ///< …streams, a stream's blocks, or reading and giving
  bool any_stream_ = false;       ///< was there already
  std::byte last_ = {};           ///< the byte taken last
  std::uint64_t block_ = 0;       ///< first bit of this block, or of the next
  std::uint64_t block_end_ = 0;   ///< of this block, in bits
  std::uint64_t decoded_ = 0;     ///< bytes given of this block
};

std::unexpected<Error> Bzip2Stream::error(int answer) const {
  if (answer == BZ_MEM_ERROR) return input_.no_memory();
  return input_.damaged(fmt::format("damaged bzip2 data (libbzip2's error {})", answer));
}

/// False where there is no other: as bzip2 does, what follows a stream and is none is ignored, but
/// not what looks like a damaged one.
Result<bool> Bzip2Stream::begin_stream() {
  SHARDFS_TRY(const ByteSpan in, input_.peek(kHeader));
  constexpr std::string_view kMagic = "BZh";
  const std::string_view text = as_text(in).substr(0, kHeader);
  std::size_t alike = 0;
  for (std::size_t i = 0; i < text.size(); ++i)
    alike += i < kMagic.size() ? text[i] == kMagic[i] : text[i] >= '1' && text[i] <= '9';
  if (text.empty()) return false;
  if (alike < kHeader) {
    if (any_stream_ && alike < 2 && alike < text.size()) return false;
    return input_.damaged("damaged bzip2 header");
  }
  BZ2_bzDecompressEnd(&bzip2_);
  bzip2_ = {};
  if (const int answer = BZ2_bzDecompressInit(&bzip2_, 0, 0); answer != BZ_OK) return error(answer);
  any_stream_ = true;
  block_ = (input_.position() + kHeader) * 8;
  return true;
}

/// Where the block ends whose last bit is in the byte taken last: there is a magic behind it.
Result<std::uint64_t> Bzip2Stream::bit_behind_block() {
  constexpr std::size_t kAhead = 7;
  SHARDFS_TRY(const ByteSpan in, input_.peek(kAhead));
  if (in.size() < kAhead) return input_.cut_short();
  auto bits = std::to_integer<std::uint64_t>(last_);
  for (const std::byte b : in.first(kAhead)) bits = bits << 8 | std::to_integer<std::uint64_t>(b);
  for (unsigned before = 0; before < 8; ++before) {
    const std::uint64_t magic = bits >> (8 + before) & 0xffff'ffff'ffff;
    if (magic == kBlockMagic || magic == kEndMagic) return input_.position() * 8 - before;
  }
  return input_.damaged("damaged bzip2 data (nothing behind a block)");
}

/// Has libbzip2 take a block whole, or the stream's end with its checksum.
Result<void> Bzip2Stream::read_block() {
  bzip2_.avail_out = 0;
  bzip2_.next_out = reinterpret_cast<char*>(out_.data());
  for (;;) {
    SHARDFS_TRY(const ByteSpan in, input_.peek());
    if (in.empty()) return input_.cut_short();
    bzip2_.next_in = reinterpret_cast<char*>(const_cast<std::byte*>(in.data()));
    bzip2_.avail_in = static_cast<unsigned>(in.size());
    const int answer = BZ2_bzDecompress(&bzip2_);
    const std::size_t taken = in.size() - bzip2_.avail_in;
    if (taken > 0) last_ = in[taken - 1];
    input_.take(taken);
    if (answer == BZ_STREAM_END) {
      state_ = State::Between;
      return {};
    }
    if (answer != BZ_OK) return error(answer);
    if (bzip2_.avail_in > 0) break;
  }
  SHARDFS_TRY(block_end_, bit_behind_block());
  decoded_ = 0;
  state_ = State::InBlock;
  return {};
}

/// Gives some of the block that was read; libbzip2 checks it with its last byte.
Result<ByteSpan> Bzip2Stream::give() {
  bzip2_.next_in = nullptr;
  bzip2_.avail_in = 0;
  bzip2_.next_out = reinterpret_cast<char*>(out_.data());
  bzip2_.avail_out = static_cast<unsigned>(out_.size());
  if (const int answer = BZ2_bzDecompress(&bzip2_); answer != BZ_OK) return error(answer);
  const std::size_t given = out_.size() - bzip2_.avail_out;
  decoded_ += given;
  if (bzip2_.avail_out > 0) {
    blocks_.add({Codec::Bzip2, 0}, block_, block_end_ - block_, decoded_);
    block_ = block_end_;
    state_ = State::AtBlock;
  }
  return ByteSpan(out_).first(given);
}

Result<ByteSpan> Bzip2Stream::advance() {
  for (;;) {
    if (state_ == State::Between) {
      SHARDFS_TRY(const bool another, begin_stream());
      if (!another) return ByteSpan();
      state_ = State::AtBlock;
    }
    if (state_ == State::AtBlock) SHARDFS_CHECK(read_block());
    if (state_ == State::InBlock) {
      SHARDFS_TRY(const ByteSpan given, give());
      if (!given.empty()) return given;
    }
  }
}

}  // namespace

StreamResult bzip2_stream(const ByteSource& source, LayoutBuilder& layout) {
  return std::make_unique<Bzip2Stream>(source, layout);
}

}  // namespace shardfs
