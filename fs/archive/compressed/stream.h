// Decodes a compressed file from its beginning to its end, and notes where it can be entered later.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "fs/archive/foreign/layout.h"
#include "fs/base/byte_source.h"
#include "fs/base/bytes.h"
#include "fs/base/result.h"

namespace shardfs {

/// A compressed file's decoded bytes, in order. One thread at a time.
class DecodedStream {
 public:
  virtual ~DecodedStream() = default;

  /// The bytes that follow those given before; empty at the end. Valid until the next call.
  /// Corrupt: damaged or cut short, also where only a checksum of the method tells.
  [[nodiscard]] virtual Result<ByteSpan> next() = 0;

  /// After the end: whether any byte can be had by decoding one block of bounded size. All blocks
  /// have been appended to the layout then; their positions are those of the decoded bytes.
  [[nodiscard]] virtual Access access() const = 0;

  /// Has what is given called by next() now and then as long as it waits for storage.
  virtual void while_waiting(const std::function<void()>&) {}

  /// Appends the block that is being decoded, as far as it has come, to a copy of the layout, if it
  /// is too large to be waited for.
  virtual void note_open(LayoutBuilder&) const {}

  /// "gz", "zst", "xz", "bz2", "lz4".
  [[nodiscard]] virtual std::string name() const = 0;
};

/// What compressed `source`, by its first bytes; null if it is none of gzip, zstd, xz, bzip2, lz4.
/// Both must outlive the stream, and nobody else adds blocks to `layout` before its end; it must
/// have none yet.
[[nodiscard]] Result<std::unique_ptr<DecodedStream>> open_stream(const ByteSource& source,
                                                                 LayoutBuilder& layout);

}  // namespace shardfs
