#include <algorithm>
#include <cstring>

#include "fs/archive/foreign/codec_methods.h"

namespace shardfs {

namespace {

constexpr std::byte kGzipMagic{0x1f};

int window_bits(Method method) {
  if (method == Method::Deflate) return -MAX_WBITS;
  return method == Method::Gzip ? MAX_WBITS + 16 : MAX_WBITS;
}

}  // namespace

InflateDecoder::~InflateDecoder() {
  if (open_) inflateEnd(&stream_);
}

Result<void> InflateDecoder::begin(const Job& job) {
  const int wrapping = window_bits(job.method);
  const int code = open_ ? inflateReset2(&stream_, wrapping) : inflateInit2(&stream_, wrapping);
  if (code != Z_OK) return no_memory();
  open_ = true;
  ended_ = false;
  gzip_ = job.method == Method::Gzip;
  bits_ = 0;
  if (job.method != Method::Deflate || job.start == nullptr) return {};
  bits_ = job.start->bits;
  const Bytes& window = job.start->window;
  const std::size_t size = std::min<std::size_t>(window.size(), 1U << MAX_WBITS);
  if (size == 0) return {};
  const auto* last = reinterpret_cast<const Bytef*>(window.data() + window.size() - size);
  if (inflateSetDictionary(&stream_, last, static_cast<uInt>(size)) != Z_OK) return no_memory();
  return {};
}

/// Behind the end of a member: skips the zeros that may fill up a tape's block, and begins the
/// member that may follow.
InflateDecoder::Next InflateDecoder::look(ByteSpan& in, bool at_end) {
  if (!gzip_) return Next::Nothing;
  const auto zeros = std::ranges::find_if(in, [](std::byte b) { return b != std::byte{}; });
  in = in.subspan(static_cast<std::size_t>(zeros - in.begin()));
  if (in.empty()) return at_end ? Next::Nothing : Next::Unknown;
  if (in.front() != kGzipMagic) return Next::Nothing;
  inflateReset(&stream_);
  ended_ = false;
  return Next::Member;
}

/// One call of zlib; returns whether a member has ended.
Result<bool> InflateDecoder::call(ByteSpan& in, std::span<std::byte>& out) {
  Bytef nowhere;
  const std::size_t in_size = std::min(in.size(), kMostAtOnce);
  const std::size_t out_size = std::min(out.size(), kMostAtOnce);
  stream_.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(in.data()));
  stream_.avail_in = static_cast<uInt>(in_size);
  stream_.next_out = out.empty() ? &nowhere : reinterpret_cast<Bytef*>(out.data());
  stream_.avail_out = static_cast<uInt>(out_size);
  const int code = inflate(&stream_, Z_NO_FLUSH);
  in = in.subspan(in_size - stream_.avail_in);
  out = out.subspan(out_size - stream_.avail_out);
  if (code == Z_MEM_ERROR) return no_memory();
  if (code == Z_NEED_DICT) return fail(ErrorKind::Unsupported, "zlib data that need a dictionary");
  if (code != Z_STREAM_END && code != Z_OK && code != Z_BUF_ERROR)
    return damaged("deflate", stream_.msg != nullptr ? stream_.msg : "impossible");
  return code == Z_STREAM_END;
}

Result<Decoder::Progress> InflateDecoder::step(ByteSpan& in, std::span<std::byte>& out) {
  const bool at_end = in.empty();
  if (bits_ != 0) {
    if (in.empty()) return Progress::More;
    inflatePrime(&stream_, static_cast<int>(8 - bits_), std::to_integer<int>(in.front()) >> bits_);
    in = in.subspan(1);
    bits_ = 0;
  }
  for (;;) {
    if (ended_) {
      const Next next = look(in, at_end);
      if (next == Next::Nothing) return Progress::Done;
      if (next == Next::Unknown) return Progress::More;
    }
    SHARDFS_TRY(ended_, call(in, out));
    if (!ended_) return Progress::More;
  }
}

}  // namespace shardfs
