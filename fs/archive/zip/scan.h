// Finds what a zip archive holds.
#pragma once

#include "fs/archive/foreign/layout.h"
#include "fs/base/byte_source.h"
#include "fs/base/result.h"

namespace shardfs {

/// Fills `layout` with every member of a zip archive (zip64 too), by its central directory, and
/// says what it is. Unsupported: not a zip, several volumes, or a member with a password or a
/// method that cannot be undone here (the message names both). Corrupt: damaged or cut short.
[[nodiscard]] Result<ForeignFacts> scan_zip(const ByteSource& source, LayoutBuilder& layout);

}  // namespace shardfs
