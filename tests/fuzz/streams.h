// Compressed streams, decoded and made by the libraries of their formats.
#pragma once

#include <random>

#include "fs/base/bytes.h"

namespace shardfs {

/// What a stream of gzip, bzip2, xz, zstd or lz4 decodes to, up to `most` bytes and to where it is
/// damaged. Empty: none of them.
[[nodiscard]] Bytes decoded_stream(ByteSpan stream, std::size_t most);

/// `content` in one of these formats, in one to three members, frames, blocks or streams.
[[nodiscard]] Bytes encoded_stream(ByteSpan content, std::minstd_rand& random);

}  // namespace shardfs
