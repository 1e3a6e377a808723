// Descriptors 0, 1 and 2.
#pragma once

namespace shardfs {

/// Opens /dev/null in place of those that the caller has closed, so that no other file gets their
/// numbers, is read as if it were standard input, or is written messages to. First of all in
/// main().
void fill_standard_descriptors();

}  // namespace shardfs
