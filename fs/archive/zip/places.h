// Where the data of a zip archive's members lie. Internal to fs/archive/zip.
#pragma once

#include <cstdint>

#include "fs/archive/zip/directory.h"
#include "fs/base/byte_source.h"
#include "fs/base/result.h"

namespace shardfs {

/// Fills in room and link of every member, and data of stored ones of at least kReadInPlace bytes;
/// reads what it needs of their local headers, and the symlinks' data, with near-by ones in one
/// request. Of a symlink that is too long to be one the link is longer than any can be. Corrupt:
/// members that overlap, sizes that cannot be, a local header or a symlink that is damaged; the
/// member is named.
[[nodiscard]] Result<void> place_zip_members(const ByteSource& source, const DirectoryPlace& place,
                                             ZipDirectory& directory);

}  // namespace shardfs
