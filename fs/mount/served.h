// What the callbacks of one mount work on.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "fs/dataset/dataset.h"
#include "fs/mount/counters.h"
#include "fs/mount/error_log.h"
#include "fs/mount/marks.h"
#include "fs/mount/scenes.h"

namespace shardfs {

class ListAhead;
class Pusher;
class SlowPool;

/// One mounted data set. Everything but counters, errors and what init() negotiates is immutable
/// while requests are served.
struct Served {
  const Dataset& dataset;
  Scenes& scenes;
  const std::string directory;  ///< where it is mounted, absolute
  const std::string subdir;     ///< of the archive that is shown as root; "" for all
  const std::string gpu;        ///< see MountOptions
  /// FUSE_CAP_* bits to do without as if the kernel did not have them; for tests.
  const std::uint32_t masked_capabilities;

  Counters counters = {};
  ErrorLog errors = {};
  Marks marks = {};
  Pusher* pusher = nullptr;  ///< set before the whole archive is shown, like the next
  ListAhead* list_ahead = nullptr;
  SlowPool* slow =
      nullptr;  ///< set before the first request; for reads that have to wait for shared storage
  SlowPool* reports = nullptr;  ///< for what people ask, who wait for no reader

  // Set by init(), which the kernel waits for before it sends anything else.
  bool no_open = false;     ///< the kernel can be told to stop sending OPEN and RELEASE
  bool no_opendir = false;  ///< likewise OPENDIR

  const std::chrono::steady_clock::time_point since = std::chrono::steady_clock::now();
};

}  // namespace shardfs
