// SIGINT, SIGTERM and SIGHUP as something to look at between two steps.
#pragma once

#include <array>

#include <signal.h>

#include "fs/base/result.h"

namespace shardfs {

/// While one of these lives, the three signals do not end the process but are remembered. A signal
/// that was ignored before (nohup) stays ignored. One object at a time.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  /// Number of the first signal that came, 0 if none has. Any thread.
  [[nodiscard]] static int signal();

  /// Interrupted, naming the signal, once one has come. Any thread.
  [[nodiscard]] static Result<void> check();

  /// Waits until `fd` can be read (or is at its end). Interrupted if a signal comes first, or
  /// `cancel_fd` (-1: none) becomes readable. Any thread: the kernel may hand a signal to any
  /// thread, so a blocking read alone would not notice.
  [[nodiscard]] static Result<void> wait_readable(int fd, int cancel_fd = -1);

 private:
  std::array<struct sigaction, 8> before_;
};

}  // namespace shardfs
