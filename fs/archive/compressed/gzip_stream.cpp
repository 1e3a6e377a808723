#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <zlib.h>

#include "fs/archive/compressed/pass.h"
#include "fs/archive/compressed/streams.h"
#include "fs/archive/compressed/window_use.h"
#include "fs/base/checksum.h"

namespace shardfs {

namespace {

/// Decoded bytes between two points where a member can be entered. A block of 1 MiB decodes in 2 to
/// 3 ms, one of 4 MiB in 7 to 12. The windows take 0.1 to 0.9 % of a file at 1 MiB, and would take
/// 0.05 to 0.3 % at 4 (3 % and 0.8 % were they kept whole). Measured with zlib 1.2.13 on headers
/// and scripts, programs, and noise.
constexpr std::uint64_t kSpacing = 1024 * 1024;

constexpr std::array kMagic = {std::byte{0x1f}, std::byte{0x8b}, std::byte{8}};
constexpr std::size_t kFixedHeader = 10;
constexpr unsigned kHasCrc = 2, kHasExtra = 4, kHasName = 8, kHasComment = 16, kReserved = 0xe0;
constexpr std::size_t kTrailer = 8;

/// The headers are read here and not by zlib, which then is between the same two states at a point
/// and at a member's beginning: in raw deflate data.
class GzipStream final : public StreamPass {
 public:
  GzipStream(const ByteSource& source, LayoutBuilder& layout)
      : StreamPass(source, layout),
        group_(blocks_, Codec::Gzip),
        out_(kDeflateWindow + kDecodedStep) {}
  ~GzipStream() override { inflateEnd(&zlib_); }
  GzipStream(const GzipStream&) = delete;
  GzipStream& operator=(const GzipStream&) = delete;

  [[nodiscard]] Result<void> init() {
    if (inflateInit2(&zlib_, -MAX_WBITS) != Z_OK || !use_.init()) return input_.no_memory();
    return {};
  }

  [[nodiscard]] std::string name() const override { return "gz"; }

 protected:
  [[nodiscard]] Result<ByteSpan> advance() override;

 private:
  [[nodiscard]] Result<bool> another_member();
  [[nodiscard]] Result<bool> begin_member();
  [[nodiscard]] Result<unsigned> header_byte();
  [[nodiscard]] Result<void> header_text();
  [[nodiscard]] Result<void> header();
  [[nodiscard]] Result<int> inflate_block();
  [[nodiscard]] Result<void> end_member();
  void begin_block(std::uint64_t offset, BlockStart start);
  void end_block(std::uint64_t end);
  void note_point();

  BlockGroup group_;
  z_stream zlib_ = {};
  Bytes out_;               ///< the window, and the bytes given last
  std::size_t filled_ = 0;  ///< bytes of it

  bool inside_ = false;           ///< of a member
  bool any_member_ = false;       ///< was there already
  std::uint64_t member_ = 0;      ///< offset of this one in the file
  std::uint64_t size_ = 0;        ///< bytes decoded of this one
  std::uint64_t noted_ = 0;       ///< of which are in blocks
  bool entered_ = false;          ///< there is a point in this one
  std::uint64_t block_ = 0;       ///< offset in the file of the block after the last point
  BlockStart start_;              ///< of that block
  Checksum64 sum_;                ///< of what it decodes to
  WindowUse use_;                 ///< of its window
  std::byte last_ = {};           ///< the byte inflated last
  unsigned long crc_ = 0;         ///< of the bytes decoded of this one
  unsigned long header_crc_ = 0;  ///< of the header so far
};

/// After a member another may come, or the end; zeros fill up tapes, and gzip ignores whatever else
/// is there. But one that looks like a damaged member is not ignored, for all the rest would be.
Result<bool> GzipStream::another_member() {
  const std::uint64_t end = input_.position();
  SHARDFS_TRY(ByteSpan in, input_.peek(kMagic.size()));
  while (any_member_ && !in.empty() && in[0] == std::byte{0}) {
    const auto zeros = std::ranges::find_if(in, [](std::byte b) { return b != std::byte{0}; });
    input_.take(static_cast<std::size_t>(zeros - in.begin()));
    SHARDFS_TRY(in, input_.peek(kMagic.size()));
  }
  if (in.empty()) return false;
  const std::size_t size = std::min(in.size(), kMagic.size());
  std::size_t alike = 0;
  for (std::size_t i = 0; i < size; ++i) alike += in[i] == kMagic[i] ? 1 : 0;
  if (alike == kMagic.size() && input_.position() == end) return true;
  if (!any_member_ || alike >= 2 || alike == size) return input_.damaged("damaged gzip header");
  return false;
}

Result<unsigned> GzipStream::header_byte() {
  SHARDFS_TRY(const ByteSpan in, input_.peek());
  if (in.empty()) return input_.cut_short();
  const auto byte = std::to_integer<unsigned char>(in[0]);
  header_crc_ = crc32(header_crc_, &byte, 1);
  input_.take(1);
  return byte;
}

/// A name or comment, which a zero ends.
Result<void> GzipStream::header_text() {
  for (unsigned byte = 1; byte != 0;) {
    SHARDFS_TRY(byte, header_byte());
  }
  return {};
}

Result<void> GzipStream::header() {
  header_crc_ = 0;
  std::array<unsigned, kFixedHeader> fixed = {};
  for (unsigned& byte : fixed) {
    SHARDFS_TRY(byte, header_byte());
  }
  const unsigned flags = fixed[3];
  if ((flags & kReserved) != 0)
    return input_.damaged("unknown flags in the gzip header", ErrorKind::Unsupported);
  if ((flags & kHasExtra) != 0) {
    SHARDFS_TRY(const unsigned low, header_byte());
    SHARDFS_TRY(const unsigned high, header_byte());
    for (unsigned left = low + 256 * high; left > 0; --left) SHARDFS_CHECK(header_byte());
  }
  if ((flags & kHasName) != 0) SHARDFS_CHECK(header_text());
  if ((flags & kHasComment) != 0) SHARDFS_CHECK(header_text());
  if ((flags & kHasCrc) != 0) {
    const unsigned long expected = header_crc_ & 0xffff;
    SHARDFS_TRY(const unsigned low, header_byte());
    SHARDFS_TRY(const unsigned high, header_byte());
    if (low + 256 * high != expected) return input_.damaged("damaged gzip header");
  }
  return {};
}

/// False where there is no other member.
Result<bool> GzipStream::begin_member() {
  SHARDFS_TRY(const bool another, another_member());
  if (!another) return false;
  member_ = input_.position();
  SHARDFS_CHECK(header());
  inflateReset(&zlib_);
  any_member_ = true;
  entered_ = false;
  size_ = noted_ = 0;
  crc_ = crc32(0, nullptr, 0);
  begin_block(input_.position(), {});
  return true;
}

void GzipStream::begin_block(std::uint64_t offset, BlockStart start) {
  block_ = offset;
  start_ = std::move(start);
  sum_ = Checksum64();
}

void GzipStream::end_block(std::uint64_t end) {
  if (!start_.window.empty()) use_.reduce(start_.window);
  start_.checksum = sum_.value();
  blocks_.add({Codec::Deflate, 0}, block_, end - block_, size_ - noted_, std::exchange(start_, {}));
  noted_ = size_;
}

/// A block of deflate data has ended, perhaps inside the byte taken last.
void GzipStream::note_point() {
  if (!entered_) group_.flush();
  entered_ = true;
  end_block(input_.position());
  const auto left = static_cast<unsigned>(zlib_.data_type) & 7;
  const auto bytes = std::span(out_).first(filled_);
  const auto window = bytes.last(std::min(kDeflateWindow, bytes.size()));
  begin_block(input_.position() - (left > 0 ? 1 : 0),
              {left > 0 ? 8 - left : 0, Bytes(window.begin(), window.end()), 0});
  use_.begin(left, last_);
}

/// Inflates to the end of a deflate block, of the input at hand, or of the room; returns zlib's
/// answer.
Result<int> GzipStream::inflate_block() {
  SHARDFS_TRY(const ByteSpan in, input_.peek());
  std::byte* const out = out_.data() + filled_;
  // zlib does not write to its input, but older ones do not say so.
  zlib_.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(in.data()));
  zlib_.avail_in = static_cast<uInt>(in.size());
  zlib_.next_out = reinterpret_cast<Bytef*>(out);
  zlib_.avail_out = static_cast<uInt>(out_.size() - filled_);
  const int answer = inflate(&zlib_, Z_BLOCK);
  const ByteSpan taken = in.first(in.size() - zlib_.avail_in);
  if (!taken.empty()) last_ = taken.back();
  if (entered_) use_.follow(taken);
  input_.take(taken.size());
  const std::size_t given = out_.size() - filled_ - zlib_.avail_out;
  crc_ = crc32_z(crc_, reinterpret_cast<const Bytef*>(out), given);
  sum_.update({out, given});
  filled_ += given;
  size_ += given;
  if (answer == Z_MEM_ERROR) return input_.no_memory();
  if (answer == Z_DATA_ERROR || answer == Z_NEED_DICT || answer == Z_STREAM_ERROR)
    return input_.damaged(fmt::format("damaged gzip data ({})",
                                      zlib_.msg != nullptr ? zlib_.msg : "no deflate data"));
  if (answer == Z_BUF_ERROR && in.empty()) return input_.cut_short();
  return answer;
}

Result<void> GzipStream::end_member() {
  inside_ = false;
  const std::uint64_t end = input_.position();
  SHARDFS_TRY(const ByteSpan trailer, input_.peek(kTrailer));
  if (trailer.size() < kTrailer) return input_.cut_short();
  if (load<std::uint32_t>(trailer.data()) != crc_ ||
      load<std::uint32_t>(trailer.data() + 4) != (size_ & 0xffffffff))
    return input_.damaged("damaged gzip data (wrong checksum or size)");
  input_.take(kTrailer);
  if (entered_)
    end_block(end);
  else
    group_.add(member_, input_.position() - member_, size_);
  return {};
}

Result<ByteSpan> GzipStream::advance() {
  if (filled_ > kDeflateWindow) {
    std::memmove(out_.data(), out_.data() + filled_ - kDeflateWindow, kDeflateWindow);
    filled_ = kDeflateWindow;
  }
  const std::size_t begin = filled_;
  while (filled_ < out_.size()) {
    if (!inside_) {
      SHARDFS_TRY(inside_, begin_member());
      if (!inside_) break;
    }
    SHARDFS_TRY(const int answer, inflate_block());
    const bool block_ends = (zlib_.data_type & 128) != 0 && (zlib_.data_type & 64) == 0;
    if (answer == Z_STREAM_END)
      SHARDFS_CHECK(end_member());
    else if (block_ends && size_ - noted_ >= kSpacing)
      note_point();
  }
  if (filled_ == begin) group_.flush();
  return ByteSpan(out_).subspan(begin, filled_ - begin);
}

}  // namespace

StreamResult gzip_stream(const ByteSource& source, LayoutBuilder& layout) {
  auto stream = std::make_unique<GzipStream>(source, layout);
  SHARDFS_CHECK(stream->init());
  return stream;
}

}  // namespace shardfs
