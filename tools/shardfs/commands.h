// The commands of the shardfs tool, one file each.
#pragma once

#include <functional>
#include <string>

#include "fs/base/result.h"
#include "fs/dataset/dataset.h"
#include "tools/common/io.h"

namespace CLI {
class App;
}

namespace shardfs {

/// What every command understands.
struct Common {
  bool quiet = false;
  bool verbose = false;
  bool json = false;
  bool from_mount8 = false;  ///< called as mount(8)'s helper, which adds options of its own
};

/// Exit codes of mount and umount, as mount(8) has them.
enum MountExit : int {
  kMounted = 0,
  kUsage = 1,        ///< or permission
  kSystem = 2,       ///< out of memory, threads, descriptors
  kBug = 4,          ///< in shardfs
  kInterrupted = 8,  ///< by a signal
  kFailed = 32,
  kSomeSucceeded = 64,
};

/// Exit codes of the other commands; 128 + signal when interrupted.
enum Exit : int { kOk = 0, kDifferences = 1, kFatal = 2 };

/// Runs a command whose options have been parsed; returns its exit code.
using Command = std::function<int(const Common&, Io&)>;

// Each declares its options in `app` and returns what is to be run after parsing.
[[nodiscard]] Command mount_command(CLI::App& app);
[[nodiscard]] Command umount_command(CLI::App& app);
[[nodiscard]] Command stats_command(CLI::App& app);
[[nodiscard]] Command info_command(CLI::App& app);
[[nodiscard]] Command verify_command(CLI::App& app);
[[nodiscard]] Command list_command(CLI::App& app);
[[nodiscard]] Command mark_command(CLI::App& app);
[[nodiscard]] Command warm_command(CLI::App& app);
[[nodiscard]] Command cache_command(CLI::App& app);
/// Not for people: clients start it.
[[nodiscard]] Command cache_server_command(CLI::App& app);

/// Writes "shardfs: MESSAGE" to `io.err` and returns `code`.
int report(Io& io, const Error& error, int code);

/// Writes what a user should know of an archive, a line each, to `io.err`.
void tell_notes(Io& io, const Dataset& dataset);

/// 128 + signal for Interrupted, else kFatal.
[[nodiscard]] int exit_code(const Error& error);

}  // namespace shardfs
