// One stream for each method; open_stream() chooses.
#pragma once

#include <memory>

#include "fs/archive/compressed/stream.h"

namespace shardfs {

/// What each returns is as open_stream() says. Io: no memory.
using StreamResult = Result<std::unique_ptr<DecodedStream>>;
[[nodiscard]] StreamResult gzip_stream(const ByteSource& source, LayoutBuilder& layout);
[[nodiscard]] StreamResult zstd_stream(const ByteSource& source, LayoutBuilder& layout);
[[nodiscard]] StreamResult xz_stream(const ByteSource& source, LayoutBuilder& layout);
[[nodiscard]] StreamResult bzip2_stream(const ByteSource& source, LayoutBuilder& layout);
[[nodiscard]] StreamResult lz4_stream(const ByteSource& source, LayoutBuilder& layout);

}  // namespace shardfs
