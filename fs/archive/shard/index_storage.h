// The bytes of an index, wherever its container keeps them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "fs/archive/shard/index_runs.h"
#include "fs/base/byte_source.h"
#include "fs/base/bytes.h"
#include "fs/base/page_buffer.h"
#include "fs/base/result.h"

namespace shardfs {

/// Immutable; any thread.
class IndexStorage {
 public:
  virtual ~IndexStorage() = default;

  /// Bytes of the whole index.
  [[nodiscard]] virtual std::uint64_t size() const = 0;

  /// Fills `out` with the bytes of the index from `offset` on. What it reads is not checked: the
  /// sections' checksums do that. REQUIRES: inside the index. Errors as the source's.
  [[nodiscard]] virtual Result<void> read(std::uint64_t offset, std::span<std::byte> out) const = 0;
};

/// In one run of bytes at `position`. `source` must outlive it.
[[nodiscard]] std::unique_ptr<IndexStorage> plain_index(const ByteSource& source,
                                                        std::uint64_t position, std::uint64_t size);

/// Escaped, in runs of global headers. `source` must outlive it.
[[nodiscard]] std::unique_ptr<IndexStorage> index_in_runs(const ByteSource& source, IndexRuns runs);

/// Reads a part of an index with large requests, from two threads where it is large.
[[nodiscard]] Result<PageBuffer> read_index(const IndexStorage& storage, std::uint64_t offset,
                                            std::uint64_t size);

}  // namespace shardfs
