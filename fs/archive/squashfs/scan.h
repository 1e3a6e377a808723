// Finds what a squashfs image holds.
#pragma once

#include "fs/archive/foreign/layout.h"
#include "fs/base/byte_source.h"
#include "fs/base/result.h"

namespace shardfs {

/// Fills `layout` with every inode and every data block of a squashfs 4.0 image, and says what it
/// is. Unsupported: not a squashfs, another version, or a compressor that the library was not built
/// with. Corrupt: damaged or cut short.
[[nodiscard]] Result<ForeignFacts> scan_squashfs(const ByteSource& source, LayoutBuilder& layout);

}  // namespace shardfs
