// Owners of zstd's contexts.
#pragma once

#include <memory>

#include <zstd.h>

namespace shardfs {

struct FreeZstd {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};
using ZstdEncoderContext = std::unique_ptr<ZSTD_CCtx, FreeZstd>;
using ZstdDecoderContext = std::unique_ptr<ZSTD_DCtx, FreeZstd>;

}  // namespace shardfs
