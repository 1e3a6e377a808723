#include <fmt/format.h>
#include <zstd_errors.h>

#include "fs/archive/foreign/codec_methods.h"

namespace shardfs {

namespace {

constexpr unsigned kLargestWindowLog = 31;  // All that the library knows.

std::unexpected<Error> zstd_failure(std::size_t code) {
  const char* const what = ZSTD_getErrorName(code);
  switch (ZSTD_getErrorCode(code)) {
    case ZSTD_error_memory_allocation:
      return no_memory();
    case ZSTD_error_dictionary_wrong:
    case ZSTD_error_frameParameter_windowTooLarge:
    case ZSTD_error_version_unsupported:
      return fail(ErrorKind::Unsupported, fmt::format("zstd data: {}", what));
    default:
      return damaged("zstd", what);
  }
}

}  // namespace

Result<void> ZstdDecoder::begin(const Job& job) {
  if (!context_) context_.reset(ZSTD_createDCtx());
  if (!context_) return no_memory();
  whole_ = job.room.has_value();
  rewind();
  ZSTD_DCtx_reset(context_.get(), ZSTD_reset_session_only);
  // A window need not be larger than what is decoded, and only pages of it that are written to take
  // memory. So it costs, at most, as much again as what was asked for.
  const unsigned window_log = whole_ ? kLargestWindowLog : kWindowLog;
  ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, static_cast<int>(window_log));
  return {};
}

void ZstdDecoder::trim() {
  if (ZSTD_sizeof_DCtx(context_.get()) > kKeptMemory) context_.reset();
}

/// Decodes a frame into `out` without a window of its own, if it is there whole and has room.
/// ZSTD_decompressStream() does the same, but only where the frame tells its decoded size.
bool ZstdDecoder::decode_whole(ByteSpan& in, std::span<std::byte>& out) {
  if (!whole_ || ZSTD_getFrameContentSize(in.data(), in.size()) != ZSTD_CONTENTSIZE_UNKNOWN)
    return false;
  const std::size_t packed = ZSTD_findFrameCompressedSize(in.data(), in.size());
  if (ZSTD_isError(packed)) return false;
  const std::size_t size =
      ZSTD_decompressDCtx(context_.get(), out.data(), out.size(), in.data(), packed);
  if (ZSTD_isError(size)) return false;
  in = in.subspan(packed);
  out = out.subspan(size);
  return true;
}

Result<bool> ZstdDecoder::call(ByteSpan& in, std::span<std::byte>& out) {
  ZSTD_inBuffer from{in.data(), in.size(), 0};
  ZSTD_outBuffer to{out.data(), out.size(), 0};
  const std::size_t code = ZSTD_decompressStream(context_.get(), &to, &from);
  if (ZSTD_isError(code)) return zstd_failure(code);
  in = in.subspan(from.pos);
  out = out.subspan(to.pos);
  return code == 0;
}

}  // namespace shardfs
