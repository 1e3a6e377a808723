#include <array>

#include <fmt/format.h>
#include <xxhash.h>

#include "fs/archive/foreign/codec_methods.h"

namespace shardfs {

Result<void> Lz4Frame::begin() {
  if (!context_) {
    LZ4F_dctx* context = nullptr;
    if (LZ4F_isError(LZ4F_createDecompressionContext(&context, LZ4F_VERSION))) return no_memory();
    context_.reset(context);
  }
  LZ4F_resetDecompressionContext(context_.get());
  return {};
}

Result<std::size_t> Lz4Frame::call(ByteSpan& in, std::span<std::byte>& out) {
  std::size_t in_size = in.size(), out_size = out.size();
  const std::size_t code =
      LZ4F_decompress(context_.get(), out.data(), &out_size, in.data(), &in_size, nullptr);
  if (LZ4F_isError(code)) return damaged("lz4", LZ4F_getErrorName(code));
  in = in.subspan(in_size);
  out = out.subspan(out_size);
  return code;
}

Result<void> Lz4Decoder::begin(const Job&) {
  rewind();
  return frame_.begin();
}

Result<bool> Lz4Decoder::call(ByteSpan& in, std::span<std::byte>& out) {
  SHARDFS_TRY(const std::size_t wanted, frame_.call(in, out));
  return wanted == 0;
}

Result<void> Lz4BlocksDecoder::begin(const Job& job) {
  const auto kind = Lz4BlockKind::of(job.parameter);
  if (!kind.is_known())
    return fail(ErrorKind::Unsupported,
                fmt::format("lz4 blocks of kind {} are not known", job.parameter));
  SHARDFS_CHECK(frame_.begin());
  any_ = false;
  ended_ = false;
  const unsigned flags = lz4_flag::kVersion | lz4_flag::kIndependent |
                         (kind.checksums ? lz4_flag::kBlockChecksums : 0);
  std::array<std::byte, 7> header{};
  store(header.data(), kLz4Magic);
  header[4] = std::byte(flags);
  header[5] = std::byte(kind.largest << 4);
  header[6] = std::byte(XXH32(&header[4], 2, 0) >> 8);
  ByteSpan in = header;
  std::span<std::byte> no_room;
  SHARDFS_CHECK(frame_.call(in, no_room));
  return {};
}

/// Without the frame's end, the blocks end with the input.
Result<Decoder::Progress> Lz4BlocksDecoder::step(ByteSpan& in, std::span<std::byte>& out) {
  constexpr std::size_t kSizeOfNext = 4;
  if (ended_) return Progress::Done;
  const bool at_end = in.empty();
  const std::size_t room = out.size();
  SHARDFS_TRY(const std::size_t wanted, frame_.call(in, out));
  const bool gave = out.size() < room;
  any_ |= gave;
  ended_ = wanted == 0 || (at_end && any_ && !gave && wanted == kSizeOfNext);
  return ended_ ? Progress::Done : Progress::More;
}

}  // namespace shardfs
