// Leaves a mount running in the background.
#pragma once

#include <functional>

#include "fs/mount/session.h"
#include "tools/common/io.h"

namespace shardfs {

/// Closes all descriptors but the standard ones: a daemon must not keep a caller's pipe or lock
/// open. To be called before any is opened here.
void close_inherited();

enum class KeepStderr : bool { No, Yes };

/// Forks; the child becomes a daemon that serves `session`. Returns in the parent once requests are
/// served, and in the child when serving has ended and `at_end` was called. REQUIRES: no other
/// thread runs.
[[nodiscard]] Result<void> serve_in_background(Session& session, KeepStderr keep_stderr,
                                               const std::function<void()>& at_end, Io& io);

}  // namespace shardfs
