// What the readers of both containers share: source, index, tree, the checksums that come late.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "fs/archive/indexed_archive.h"
#include "fs/archive/shard/index_storage.h"
#include "fs/base/byte_source.h"
#include "fs/base/bytes.h"
#include "fs/base/result.h"
#include "fs/tree/index.h"
#include "fs/tree/tree.h"

namespace shardfs {

/// An opened shard's parts, checked; what both readers are made of.
struct OpenedShard {
  std::shared_ptr<const ByteSource> source;
  std::unique_ptr<IndexStorage> storage;  ///< refers to *source
  std::unique_ptr<Index> index;
  Tree tree;  ///< refers to *index
};

class ShardArchive : public IndexedArchive {
 public:
  [[nodiscard]] ArchiveInfo info() const final;

 protected:
  explicit ShardArchive(OpenedShard shard)
      : IndexedArchive(std::move(shard.source), std::move(shard.index), std::move(shard.tree)),
        storage_(std::move(shard.storage)) {}

  /// CHECKSUMS, read when first asked for; a failure is tried again by the next call.
  [[nodiscard]] Result<ByteSpan> checksums(Wait wait = Wait::Yes) const;

  /// Bytes of the archive, which are checked by `is_right` and fetched once more from their origin
  /// where they are not. Corrupt, without a message, where they are not right then either.
  template <typename IsRight>
  [[nodiscard]] Result<void> read_checked(Wait wait, std::uint64_t offset, std::span<std::byte> out,
                                          const IsRight& is_right) const {
    SHARDFS_CHECK(wait == Wait::No ? source().try_read_at(offset, out)
                                   : source().read_at(offset, out));
    if (is_right()) return {};
    if (source().may_wait()) {
      if (wait == Wait::No) return would_wait();
      SHARDFS_CHECK(source().reread_at(offset, out));
      if (is_right()) return {};
    }
    return fail(ErrorKind::Corrupt, {});
  }

  /// A part of the index as it must stand in the archive: from memory. REQUIRES: checksums() came.
  [[nodiscard]] Bytes index_bytes(std::uint64_t offset, std::uint64_t size) const;

 private:
  [[nodiscard]] Result<void> load_checksums() const;

  std::unique_ptr<IndexStorage> storage_;
  mutable std::mutex mutex_;
  mutable PageBuffer checksums_;             ///< written once, under mutex_
  mutable std::atomic<bool> loaded_{false};  ///< checksums_ is there, for good
};

}  // namespace shardfs
