// The same archive, read by libarchive alone.
#pragma once

#include "fs/base/bytes.h"

namespace shardfs {

/// Ends the process where a file's bytes are not those that libarchive gives: it decodes, and knows
/// of data that do not lie where they seem to. Only names that are there once are compared, and of
/// a file no more than some MiB.
void compare_with_libarchive(ByteSpan archive);

}  // namespace shardfs
