// Leaves a mount running in the background.
#pragma once

#include <utility>

#include <sys/types.h>

#include "fs/base/result.h"
#include "fs/base/unique_fd.h"
#include "tools/common/io.h"

namespace shardfs {

/// Closes all descriptors but the standard ones: a daemon must not keep a caller's pipe or lock
/// open. To be called before any is opened here.
void close_inherited();

enum class KeepStderr : bool { No, Yes };

/// A daemon to be, and the command that waits for it. The fork comes first, before there is any
/// thread: all the work of the command is the child's.
class Daemon {
 public:
  /// Forks. REQUIRES: no other thread runs.
  [[nodiscard]] static Result<Daemon> fork(Io& io);

  [[nodiscard]] bool is_child() const { return child_ == 0; }

  /// In the parent: waits until the child is ready or has ended; returns the command's exit code.
  /// What signals would end the command are the child's to handle meanwhile, and a child that a
  /// signal ended has the parent end by it too.
  [[nodiscard]] int wait();

  /// In the child: holds nothing of the caller's any more, no terminal, no directory, no pipe that
  /// somebody reads to its end. To be called before there are threads with descriptors of their
  /// own.
  void leave_caller(KeepStderr keep_stderr);
  /// In the child: lets the command end with success.
  void ready();

 private:
  Daemon(pid_t child, UniqueFd pipe) : child_(child), pipe_(std::move(pipe)) {}

  pid_t child_;
  UniqueFd pipe_;  ///< the parent's end is read, the child's written
};

}  // namespace shardfs
