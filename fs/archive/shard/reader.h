// Opens a shard (FORMAT.md) and serves its data, checked.
#pragma once

#include <memory>

#include "fs/archive/archive.h"
#include "fs/base/byte_source.h"
#include "fs/base/result.h"

namespace shardfs {

/// Opens `source` as a shard of either container. NotFound: it is none. Unsupported: it is one of a
/// later version, or was one until its end was damaged or another tool changed it. Corrupt: its
/// index is damaged, or it has been cut. Reads the last 256 KiB, then the index in as few requests
/// as its runs allow.
[[nodiscard]] Result<std::unique_ptr<Archive>> open_shard(std::shared_ptr<const ByteSource> source);

}  // namespace shardfs
