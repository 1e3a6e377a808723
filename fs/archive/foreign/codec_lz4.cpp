#include "fs/archive/foreign/codec_methods.h"

namespace shardfs {

Result<void> Lz4Decoder::begin(const Job&) {
  if (!context_) {
    LZ4F_dctx* context = nullptr;
    if (LZ4F_isError(LZ4F_createDecompressionContext(&context, LZ4F_VERSION))) return no_memory();
    context_.reset(context);
  }
  LZ4F_resetDecompressionContext(context_.get());
  rewind();
  return {};
}

Result<bool> Lz4Decoder::call(ByteSpan& in, std::span<std::byte>& out) {
  std::size_t in_size = in.size(), out_size = out.size();
  const std::size_t code =
      LZ4F_decompress(context_.get(), out.data(), &out_size, in.data(), &in_size, nullptr);
  if (LZ4F_isError(code)) return damaged("lz4", LZ4F_getErrorName(code));
  in = in.subspan(in_size);
  out = out.subspan(out_size);
  return code == 0;
}

}  // namespace shardfs
