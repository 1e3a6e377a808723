// How tests command the store and read its counters: over a Unix stream socket, a JSON object a
// line in both directions.
#pragma once

#include <string>

#include "fs/base/result.h"
#include "tests/support/slowstore_counters.h"
#include "tests/support/slowstore_reads.h"

namespace slowstore {

/// Answers one command: `{}`, the counters for "stats", or `{"error": WHY}`. A command is
/// `{"do": WHAT}` with
///   "stats", "reset", "clear"
///   "fail"           errno: a name as "EIO", or a number
///   "short"          bytes: the most that is given; half of what was asked for if left out
///   "stall", "flip"
///   "release"        errno: what held reads are answered with; left out, they are served
///   "latency"        ms
///   "bandwidth"      bytes: a second; 0 is no limit
/// Those of faults also take, and mean every read without them: count (reads), name (of a file),
/// offset and length (reads that touch these bytes; without length, all from offset on).
[[nodiscard]] std::string answer_command(const std::string& line, Reads& reads, Counters& counters);

/// Serves commands at `path`, in threads of its own, until the process ends. REQUIRES: both outlive
/// it.
[[nodiscard]] shardfs::Result<void> serve_control(const std::string& path, Reads& reads,
                                                  Counters& counters);

}  // namespace slowstore
