// Where a mount's log goes.
#pragma once

#include <cstdint>
#include <string>

#include "fs/base/result.h"

namespace shardfs {

enum class LogLevel : std::uint8_t { Quiet, Normal, Verbose };  ///< errors; and news; and debugging

/// Sends the log of this process to "stderr", "syslog", "none" or a file, which is appended to.
/// Starts no thread. Before any other thread uses the log.
[[nodiscard]] Result<void> start_log(const std::string& destination, LogLevel level);

/// "syslog" where the machine has one, otherwise "none": what a daemon logs to unless told.
[[nodiscard]] std::string default_daemon_log();

}  // namespace shardfs
