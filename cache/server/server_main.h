// Becoming the cache server of a directory.
#pragma once

#include <functional>
#include <string>

#include "fs/base/result.h"

namespace shardfs {

/// Serves the cache in `parent` until its last client has gone, in a process of its own that holds
/// nothing of the caller's. Returns in the calling process as soon as clients can connect, be it to
/// a server that was there already; or with the reason why there is none. `start_log` is called in
/// the new process with the path of its log. REQUIRES: one thread, and no descriptor that the new
/// process must not keep.
[[nodiscard]] Result<void> run_cache_server(
    const std::string& parent, const std::function<void(const std::string&)>& start_log);

}  // namespace shardfs
