// Finds what the archives hold that libarchive reads and whose members lie in them as they are.
#pragma once

#include "fs/archive/compressed/stream.h"
#include "fs/archive/foreign/layout.h"
#include "fs/base/byte_source.h"
#include "fs/base/result.h"

namespace shardfs {

/// Fills `layout` with every member of a tar (of any kind), cpio, ar, ISO 9660 image or WARC, in
/// one pass, and says what it is. `stream` gives the archive's bytes where `source` is compressed,
/// and is null otherwise. Unsupported: another format, or not an archive. Corrupt: damaged or cut
/// short. `parts` may be null.
[[nodiscard]] Result<ForeignFacts> scan_by_libarchive(const ByteSource& source,
                                                      DecodedStream* stream, LayoutBuilder& layout,
                                                      const PartialScan* parts);

}  // namespace shardfs
