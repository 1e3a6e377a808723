// What a tool talks to, so that a test can run it in memory.
#pragma once

#include <iosfwd>

namespace shardfs {

/// The streams of one run of a tool: results go to `out`, log and progress to `err`.
struct Io {
  std::ostream& out;
  std::ostream& err;
  bool err_is_terminal = false;
};

}  // namespace shardfs
