#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "fs/archive/foreign/codec_methods.h"

extern "C" {
#include <squashfuse/decompress.h>
}

namespace shardfs {

namespace {

/// Most bytes of a block, packed or not.
constexpr std::size_t kMostOfBlock = 1024 * 1024;

// The numbers of the compressors in a superblock.
constexpr unsigned kZlib = 1, kXz = 4, kZstd = 6;

}  // namespace

Result<Method> squashfs_method(unsigned compressor) {
  if (sqfs_decompressor_get(static_cast<sqfs_compression_type>(compressor)) == nullptr)
    return fail(ErrorKind::Unsupported,
                fmt::format("squashfs compressor {} is not known to libsquashfuse", compressor));
  // What libsquashfuse would set up anew for each block.
  if (compressor == kZlib) return Method::Zlib;
  if (compressor == kXz) return Method::XzStream;
  if (compressor == kZstd) return Method::Zstd;
  return Method::Squashfs;
}

Result<void> SquashfsDecoder::begin(const Job& job) {
  job_ = job;
  packed_.clear();
  decoded_.clear();
  at_ = 0;
  return {};
}

/// Decodes a block; of one that is larger than `out`, its first bytes.
Result<std::size_t> SquashfsDecoder::decode(ByteSpan packed, std::span<std::byte> out) const {
  const auto decompress = sqfs_decompressor_get(static_cast<sqfs_compression_type>(job_.parameter));
  void* const in = const_cast<std::byte*>(packed.data());
  std::size_t size = out.size();
  if (decompress(in, packed.size(), out.data(), &size) == SQFS_OK) return size;
  // These compressors do not tell whether the room or the data are to blame.
  if (out.size() < kMostOfBlock) {
    Bytes whole(kMostOfBlock);
    size = whole.size();
    if (decompress(in, packed.size(), whole.data(), &size) == SQFS_OK) {
      size = std::min(size, out.size());
      std::memcpy(out.data(), whole.data(), size);
      return size;
    }
  }
  return damaged("squashfs", sqfs_compression_name(static_cast<int>(job_.parameter)));
}

/// The end of the input is the end of the block; nothing in it tells.
Result<void> SquashfsDecoder::collect(ByteSpan& in) {
  if (in.empty()) {
    if (packed_.empty()) return cut_short();
    decoded_.resize(kMostOfBlock);
    SHARDFS_TRY(const std::size_t size, decode(packed_, decoded_));
    if (size == 0) return damaged("squashfs", "an empty block");
    decoded_.resize(size);
    return {};
  }
  if (in.size() > kMostOfBlock - packed_.size()) return damaged("squashfs", "too large a block");
  append(packed_, in);
  in = {};
  return {};
}

Result<Decoder::Progress> SquashfsDecoder::step(ByteSpan& in, std::span<std::byte>& out) {
  if (job_.room) {
    SHARDFS_TRY(const std::size_t size, decode(in, out));
    in = {};
    out = out.subspan(size);
    return Progress::Done;
  }
  if (decoded_.empty()) {
    SHARDFS_CHECK(collect(in));
    if (decoded_.empty()) return Progress::More;
  }
  const std::size_t size = std::min(out.size(), decoded_.size() - at_);
  if (size > 0) std::memcpy(out.data(), decoded_.data() + at_, size);
  out = out.subspan(size);
  at_ += size;
  return at_ == decoded_.size() ? Progress::Done : Progress::More;
}

}  // namespace shardfs
