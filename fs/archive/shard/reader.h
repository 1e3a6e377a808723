// Opens a shard (FORMAT.md) and serves its data, checked.
#pragma once

#include <memory>

#include "fs/archive/archive.h"
#include "fs/base/byte_source.h"
#include "fs/base/result.h"

namespace shardfs {

/// Opens `source` as a shard of either container. Unsupported: it is not a shard, or no longer one
/// because another tool has changed it (the message says so: "was a shard"). Corrupt: it is
/// a shard whose index is damaged or which has been cut. Reads the last 256 KiB, then the index in
/// as few requests as its runs allow.
[[nodiscard]] Result<std::unique_ptr<Archive>> open_shard(std::shared_ptr<const ByteSource> source);

}  // namespace shardfs
