// Carries out what is asked of a mount (control.h).
#pragma once

#include "fs/base/result.h"
#include "fs/mount/control.h"
#include "fs/mount/served.h"

namespace shardfs {

void mark(Served& served, const MarkCommand& command);

/// Tells the cache what will be read; sets `command.unknown`. May wait for the cache server.
/// Unsupported where nothing is cached.
[[nodiscard]] Result<void> warm(const Served& served, WarmCommand& command);

}  // namespace shardfs
