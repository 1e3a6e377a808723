#include <algorithm>
#include <array>

#include "fs/archive/foreign/codec_methods.h"

namespace shardfs {

namespace {

/// A block that holds one byte, "x", as `bzip2` writes it; the last bits of the last byte are not
/// its. Blocks follow each other without padding, so some of these in front of a block bring it to
/// any bit of a byte: libbz2 can only read from a stream's start on.
constexpr std::array<std::uint8_t, 23> kFiller = {0x31, 0x41, 0x59, 0x26, 0x53, 0x59, 0x77, 0x4b,
                                                  0xb0, 0x14, 0x00, 0x00, 0x00, 0x00, 0x80, 0x00,
                                                  0x40, 0x20, 0x00, 0x21, 0x18, 0x46, 0x80};
constexpr unsigned kFillerBits = 179;
static_assert(kFillerBits % 8 == 3, "three times as many blocks as bits make so many bits");

/// The start of a stream whose next block begins `bits` bits into the last byte.
Bytes stream_start(unsigned bits) {
  Bytes start;
  append(start, std::string_view("BZh9"));  // Room for the blocks of any level.
  const unsigned fillers = bits * 3 % 8;
  start.resize(start.size() + fillers * kFillerBits / 8 + 1);
  for (unsigned at = 0; at < fillers * kFillerBits; ++at) {
    const unsigned from = at % kFillerBits;
    const unsigned bit = (kFiller[from / 8] >> (7 - from % 8)) & 1U;
    start[4 + at / 8] |= std::byte(bit << (7 - at % 8));
  }
  return start;
}

}  // namespace

void Bzip2Decoder::trim() {
  if (open_) BZ2_bzDecompressEnd(&stream_);
  open_ = false;
}

Result<void> Bzip2Decoder::begin(const Job& job) {
  trim();
  stream_ = {};
  if (BZ2_bzDecompressInit(&stream_, 0, 0) != BZ_OK) return no_memory();
  open_ = true;
  ended_ = false;
  block_ = job.method == Method::Bzip2Block;
  if (!block_) return {};
  bits_ = job.start != nullptr ? job.start->bits : 0;
  in_first_ = true;
  read_ = false;
  const Bytes start = stream_start(bits_);
  before_ = start.back();
  return lead(ByteSpan(start).first(start.size() - 1));
}

/// One call of the library. Returns its code, BZ_OK or BZ_STREAM_END.
Result<int> Bzip2Decoder::call(ByteSpan& in, std::span<std::byte>& out) {
  const std::size_t in_size = std::min(in.size(), kMostAtOnce);
  const std::size_t out_size = std::min(out.size(), kMostAtOnce);
  stream_.next_in = reinterpret_cast<char*>(const_cast<std::byte*>(in.data()));
  stream_.avail_in = static_cast<unsigned>(in_size);
  stream_.next_out = reinterpret_cast<char*>(out.data());
  stream_.avail_out = static_cast<unsigned>(out_size);
  const int code = BZ2_bzDecompress(&stream_);
  in = in.subspan(in_size - stream_.avail_in);
  out = out.subspan(out_size - stream_.avail_out);
  if (code == BZ_MEM_ERROR) return no_memory();
  if (code == BZ_DATA_ERROR_MAGIC) return damaged("bzip2", "no bzip2 stream");
  if (code != BZ_OK && code != BZ_STREAM_END)
    return damaged("bzip2", "an impossible value or a wrong checksum");
  return code;
}

/// Feeds what stands in front of the block, and drops what comes of it.
Result<void> Bzip2Decoder::lead(ByteSpan bytes) {
  std::array<std::byte, 8> dropped;
  std::span<std::byte> out(dropped);
  SHARDFS_TRY(const int code, call(bytes, out));
  if (code != BZ_OK || !bytes.empty()) return damaged("bzip2", "no block");
  return {};
}

Result<Decoder::Progress> Bzip2Decoder::step(ByteSpan& in, std::span<std::byte>& out) {
  if (ended_) return Progress::Done;
  if (block_) return step_block(in, out);
  SHARDFS_TRY(const int code, call(in, out));
  ended_ = code == BZ_STREAM_END;
  return ended_ ? Progress::Done : Progress::More;
}

/// A block is read to its last byte without room for what it holds, and then written without
/// input: else the library would go on into what follows, which is not the block's.
Result<Decoder::Progress> Bzip2Decoder::step_block(ByteSpan& in, std::span<std::byte>& out) {
  if (in_first_) {
    if (in.empty()) return Progress::More;
    const std::byte first = before_ | (in.front() & std::byte(0xff >> bits_));
    SHARDFS_CHECK(lead({&first, 1}));
    in = in.subspan(1);
    in_first_ = false;
  }
  if (!read_) {
    std::span<std::byte> no_room;
    SHARDFS_TRY(const int code, call(in, no_room));
    if (code != BZ_OK) return damaged("bzip2", "no block");
  }
  ByteSpan no_input;
  const std::size_t room = out.size();
  SHARDFS_TRY(const int code, call(no_input, out));
  if (code != BZ_OK) return damaged("bzip2", "no block");
  read_ |= out.size() < room;  // Only a block that has been read gives anything, and each does.
  ended_ = read_ && !out.empty();
  return ended_ ? Progress::Done : Progress::More;
}

}  // namespace shardfs
