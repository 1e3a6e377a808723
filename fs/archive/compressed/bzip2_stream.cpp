#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "fs/archive/compressed/blocks_ahead.h"
#include "fs/archive/compressed/pass.h"
#include "fs/archive/compressed/streams.h"
#include "fs/archive/foreign/block_table.h"

namespace shardfs {

namespace {

constexpr std::size_t kHeader = 4;  ///< "BZh" and the level
constexpr std::uint64_t kBlockMagic = 0x314159265359, kEndMagic = 0x177245385090;
constexpr std::uint64_t kMagicMask = 0xffff'ffff'ffff;
constexpr unsigned kMagicBits = 48, kSumBits = 32;  ///< a sum is behind each magic
bool is_magic(std::uint64_t bits) { return bits == kBlockMagic || bits == kEndMagic; }

/// How many of the first bytes are as a stream's.
std::size_t header_likeness(std::string_view text) {
  constexpr std::string_view kStart = "BZh";
  std::size_t alike = 0;
  for (std::size_t i = 0; i < std::min(text.size(), kHeader); ++i)
    alike += i < kStart.size() ? text[i] == kStart[i] : text[i] >= '1' && text[i] <= '9';
  return alike;
}

/// No block has more bytes: 900,000 symbols of at most 20 bits, and their tables.
constexpr std::size_t kMostPart = 2'500'000;

/// Parts that are looked for ahead: for some tools each block is a stream, with an end.
constexpr std::size_t kMostParts = 128;

/// Parts that a block is joined with, in which as many would look like magics: of random bits one
/// in 30 TB does.
constexpr unsigned kMostJoins = 4;

/// What a block decodes to where no bytes repeat, by its level, and how much of a block is decoded
/// ahead. One of more, up to 46 MB, is decoded again when its turn comes.
constexpr std::size_t kOfALevel = 100'000, kDecodedAhead = 8 * 1024 * 1024;

/// `count` bits of `bytes`, from bit `from` on, the high ones of a byte first. REQUIRES: they are
/// there; count <= 64.
std::uint64_t bits_of(ByteSpan bytes, std::uint64_t from, unsigned count) {
  std::uint64_t bits = 0;
  for (std::uint64_t at = from; at < from + count; ++at)
    bits = bits << 1 | (std::to_integer<unsigned>(bytes[at / 8]) >> (7 - at % 8) & 1U);
  return bits;
}

/// What lies between two magics, or behind the last, with the first of them.
struct Part {
  bool is_block = false;               ///< by its magic; else the end of a stream
  std::uint64_t offset = 0, size = 0;  ///< in the file, bits
  Bytes bytes = {};                    ///< that have any bit of it; a block's go elsewhere
};

/// By bits 16 to 23 of the last bytes: how many bits may be behind a magic in them, as a set of
/// numbers from 0 to 7.
constexpr std::array<std::uint8_t, 256> kMayEnd = [] {
  std::array<std::uint8_t, 256> may{};
  for (unsigned behind = 0; behind < 8; ++behind)
    for (const std::uint64_t magic : {kBlockMagic, kEndMagic})
      may[magic >> (16 - behind) & 0xff] |= static_cast<std::uint8_t>(1U << behind);
  return may;
}();

/// Cuts a file wherever there is a magic.
class Splitter {
 public:
  explicit Splitter(ForwardInput& input) : input_(input) {}

  /// Nothing at the end. Corrupt: the file does not begin with a stream.
  [[nodiscard]] Result<std::optional<Part>> next();
  /// The first stream's, from 1 to 9.
  [[nodiscard]] unsigned level() const { return level_; }

 private:
  [[nodiscard]] Result<void> begin();
  [[nodiscard]] bool find_magic(ByteSpan in, std::size_t& passed);
  [[nodiscard]] Part cut(std::uint64_t at);

  ForwardInput& input_;
  std::uint64_t last_ = 0;    ///< the last 8 bytes that were looked at
  unsigned behind_ = 0;       ///< bits of them that are behind the magic found last
  std::uint64_t offset_ = 0;  ///< of the next part, in the file, bits; 0: none was there yet
  bool is_block_ = false;     ///< the next part
  bool ended_ = false;
  unsigned level_ = 9;
  Bytes bytes_;  ///< of the next part, as far as they were looked at
};

/// True right behind a magic that ends in `in`. `passed`: bytes up to there, or all.
bool Splitter::find_magic(ByteSpan in, std::size_t& passed) {
  for (passed = 0; passed < in.size();) {
    last_ = last_ << 8 | std::to_integer<std::uint64_t>(in[passed++]);
    if (kMayEnd[last_ >> 16 & 0xff] == 0) continue;
    for (behind_ = 0; behind_ < 8; ++behind_)
      if (is_magic(last_ >> behind_ & kMagicMask)) return true;
  }
  return false;
}

Result<void> Splitter::begin() {
  constexpr std::size_t kFirst = kHeader + kMagicBits / 8;
  SHARDFS_TRY(const ByteSpan in, input_.peek(kFirst));
  if (in.size() < kFirst) return input_.cut_short();
  last_ = bits_of(in, kHeader * 8, kMagicBits);
  if (header_likeness(as_text(in)) < kHeader || !is_magic(last_))
    return input_.damaged("damaged bzip2 header");
  level_ = std::to_integer<unsigned>(in[kHeader - 1]) - '0';
  is_block_ = last_ == kBlockMagic;
  offset_ = kHeader * 8;
  append(bytes_, in.subspan(kHeader, kMagicBits / 8));
  input_.take(kFirst);
  return {};
}

/// Ends the part that was begun, at bit `at` of the file.
Part Splitter::cut(std::uint64_t at) {
  Part part{.is_block = is_block_, .offset = offset_, .size = at - offset_};
  const std::uint64_t base = offset_ / 8;
  Bytes rest(bytes_.begin() + static_cast<std::ptrdiff_t>(at / 8 - base), bytes_.end());
  bytes_.resize((at + 7) / 8 - base);
  part.bytes = std::exchange(bytes_, std::move(rest));
  offset_ = at;
  return part;
}

Result<std::optional<Part>> Splitter::next() {
  if (offset_ == 0) SHARDFS_CHECK(begin());
  while (!ended_) {
    SHARDFS_TRY(ByteSpan in, input_.peek());
    in = in.first(std::min(in.size(), kMostPart - bytes_.size()));
    std::size_t passed = 0;
    const bool found = find_magic(in, passed);
    append(bytes_, in.first(passed));
    input_.take(passed);
    const std::uint64_t end = input_.position() * 8;
    if (found) {
      Part part = cut(end - behind_ - kMagicBits);
      is_block_ = (last_ >> behind_ & kMagicMask) == kBlockMagic;
      return part;
    }
    // Or there is no magic for longer than a block can be.
    ended_ = in.empty();
    if (ended_) return cut(end);
  }
  return std::nullopt;
}

/// Finds the blocks by their magics, and decodes several at once. Data may contain what looks like
/// one: a block that was cut there does not decode, and is joined with what follows.
class Bzip2Stream final : public StreamPass {
 public:
  Bzip2Stream(const ByteSource& source, LayoutBuilder& layout)
      : StreamPass(source, layout), splitter_(input_) {}
  [[nodiscard]] std::string name() const override { return "bz2"; }

 protected:
  [[nodiscard]] Result<ByteSpan> advance() override;

 private:
  [[nodiscard]] Result<void> look_ahead();
  [[nodiscard]] Result<void> take_block();
  [[nodiscard]] Result<bool> join(PackedBlock& block);
  [[nodiscard]] Result<void> end_stream();

  Splitter splitter_;
  std::deque<Part> parts_;  ///< those that are blocks are in ahead_, with their bytes
  BlocksAhead ahead_;
  std::uint32_t sum_ = 0;  ///< of this stream's blocks so far
  bool ended_ = false;
  Bytes out_;
};

Result<void> Bzip2Stream::look_ahead() {
  while (!ended_ && ahead_.wants_more() && parts_.size() < kMostParts) {
    SHARDFS_TRY(std::optional<Part> part, splitter_.next());
    if (!part) return {};
    if (part->is_block)
      ahead_.push({.coder = {Codec::Bzip2},
                   .offset = part->offset,
                   .size = part->size,
                   .packed = std::exchange(part->bytes, {}),
                   .likely = splitter_.level() * kOfALevel,
                   .most = kDecodedAhead});
    parts_.push_back(std::move(*part));
  }
  return {};
}

/// Joins a block with the part that follows. False if none does that could belong to it.
Result<bool> Bzip2Stream::join(PackedBlock& block) {
  SHARDFS_CHECK(look_ahead());
  if (parts_.empty() || block.packed.size() >= kMostPart) return false;
  Part next = std::move(parts_.front());
  parts_.pop_front();
  if (next.is_block) next.bytes = ahead_.pop(input_.look()).block.packed;
  // A byte that has bits of both is there twice.
  const bool shared = next.offset % 8 != 0;
  append(block.packed, ByteSpan(next.bytes).subspan(shared ? 1 : 0));
  block.size += next.size;
  return true;
}

/// Decodes the block that is next to out_.
Result<void> Bzip2Stream::take_block() {
  parts_.pop_front();
  auto [block, decoded] = ahead_.pop(input_.look());
  const std::uint64_t position = block.offset / 8;
  if (!decoded && decoded.error().kind == ErrorKind::NoSpace)
    decoded = decode_whole(block, kMaxWhole);
  for (unsigned joins = 0; decoded && decoded->is_cut; ++joins) {
    SHARDFS_TRY(const bool longer, join(block));
    if (!longer && parts_.empty()) return input_.cut_short();
    if (!longer || joins == kMostJoins) return input_.damaged_at(position, "damaged bzip2 data");
    decoded = decode_whole(block, kMaxWhole);
  }
  if (!decoded) {
    const ErrorKind kind = decoded.error().kind;
    return input_.damaged_at(position, decoded.error().message,
                             kind == ErrorKind::NoSpace ? ErrorKind::Corrupt : kind);
  }
  SHARDFS_CHECK(look_ahead());
  if (parts_.empty()) return input_.cut_short();
  out_ = std::move(decoded->bytes);
  const auto sum =
      static_cast<std::uint32_t>(bits_of(block.packed, block.first_bit() + kMagicBits, kSumBits));
  sum_ = std::rotl(sum_, 1) ^ sum;
  blocks_.add(block.coder, block.offset, block.size, out_.size());
  return {};
}

/// Checks a stream's sum, and that another begins, or the file ends. As bzip2 does, what follows a
/// stream and is none is ignored, but not what looks like a damaged one.
Result<void> Bzip2Stream::end_stream() {
  const Part end = std::move(parts_.front());
  parts_.pop_front();
  const std::uint64_t behind = end.offset % 8 + kMagicBits + kSumBits;
  const std::uint64_t header = (behind + 7) / 8;  // of the next stream
  if (end.bytes.size() < header) return input_.damaged_at(end.offset / 8, "cut short");
  if (bits_of(end.bytes, end.offset % 8 + kMagicBits, kSumBits) != sum_)
    return input_.damaged_at(end.offset / 8, "damaged bzip2 data (a stream's checksum)");
  sum_ = 0;
  SHARDFS_CHECK(look_ahead());
  const bool followed = !parts_.empty();
  const std::string_view rest = as_text(ByteSpan(end.bytes).subspan(header));
  const std::size_t alike = header_likeness(rest);
  if (followed && rest.size() == kHeader && alike == kHeader && parts_.front().offset % 8 == 0)
    return {};
  ended_ = alike < 2 && (followed || alike < rest.size() || rest.empty());
  if (!ended_) return input_.damaged_at(end.offset / 8 + header, "damaged bzip2 header");
  return {};
}

Result<ByteSpan> Bzip2Stream::advance() {
  for (;;) {
    SHARDFS_CHECK(look_ahead());
    if (ended_) return ByteSpan();
    if (parts_.empty()) return input_.cut_short();
    if (parts_.front().is_block) {
      SHARDFS_CHECK(take_block());
      return out_;
    }
    SHARDFS_CHECK(end_stream());
  }
}

}  // namespace

StreamResult bzip2_stream(const ByteSource& source, LayoutBuilder& layout) {
  return std::make_unique<Bzip2Stream>(source, layout);
}

}  // namespace shardfs
