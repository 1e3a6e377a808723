// A thread with a table of file descriptors of its own, and how many a process may have.
#pragma once

#include <optional>

#include "fs/base/result.h"

namespace shardfs {

/// Gives the calling thread a table of descriptors of its own: the standard ones and `keep`, under
/// the numbers that they have. The process's other threads see no change, and neither
/// can use what the other opens later. Unsupported: a sandbox or a lack of memory forbids
/// it; the thread may have more descriptors open then.
///
/// What this is for: what waits for the answer of a FUSE daemon that was killed is let go when the
/// last descriptor of its device is closed. A thread of the daemon that waits for such an answer
/// itself, which no signal ends, must not be one that holds it open.
[[nodiscard]] Result<void> own_descriptors(std::optional<int> keep = {});

/// Lets the process have as many descriptors as it may give itself.
void raise_descriptor_limit();

}  // namespace shardfs
