#include "fs/mount/log.h"

#include <cerrno>
#include <memory>

#include <fcntl.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/null_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/sinks/syslog_sink.h>
#include <spdlog/spdlog.h>
#include <syslog.h>
#include <unistd.h>

#include "fs/base/unique_fd.h"

namespace shardfs {
namespace {

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::Quiet:
      return spdlog::level::err;
    case LogLevel::Normal:
      return spdlog::level::info;
    case LogLevel::Verbose:
      return spdlog::level::debug;
  }
  return spdlog::level::info;
}

// The library throws where a file cannot be opened; this finds out before.
Result<void> check_appendable(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!file) return fail_errno(errno, path, "cannot open the log");
  return {};
}

Result<spdlog::sink_ptr> make_sink(const std::string& destination) {
  if (destination == "stderr") return std::make_shared<spdlog::sinks::stderr_sink_mt>();
  if (destination == "none") return std::make_shared<spdlog::sinks::null_sink_mt>();
  if (destination == "syslog") {
    return std::make_shared<spdlog::sinks::syslog_sink_mt>("shardfs", LOG_PID, LOG_DAEMON, false);
  }
  SHARDFS_CHECK(check_appendable(destination));
  auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(destination);
  sink->set_pattern("%Y-%m-%dT%H:%M:%S%z shardfs[%P]: %v");
  return sink;
}

}  // namespace

Result<void> start_log(const std::string& destination, LogLevel level) {
  SHARDFS_TRY(spdlog::sink_ptr sink, make_sink(destination));
  if (destination == "stderr") sink->set_pattern("shardfs: %v");
  auto logger = std::make_shared<spdlog::logger>("shardfs", std::move(sink));
  logger->set_level(spdlog_level(level));
  logger->flush_on(spdlog::level::trace);  // A daemon may be killed at any moment.
  spdlog::set_default_logger(std::move(logger));
  return {};
}

std::string default_daemon_log() { return ::access("/dev/log", W_OK) == 0 ? "syslog" : "none"; }

}  // namespace shardfs
