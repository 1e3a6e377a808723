// How much memory this process may count on.
#pragma once

#include <cstdint>

namespace shardfs {

/// Bytes that could be taken without swapping: MemAvailable of /proc/meminfo (proc(5)), or the
/// least memory limit of the control groups that this process is in (version 1 or 2, with all above
/// them) where that is less, as a batch system sets it for a job. 0 if nothing can be told.
[[nodiscard]] std::uint64_t available_memory();

}  // namespace shardfs
