#include <memory>
#include <string>

#include <CLI/CLI.hpp>

#include "cache/common/protocol.h"
#include "cache/server/server_main.h"
#include "fs/mount/log.h"
#include "tools/shardfs/commands.h"
#include "tools/shardfs/daemon.h"

namespace shardfs {

Command cache_server_command(CLI::App& app) {
  auto parent = std::make_shared<std::string>();
  app.add_option("DIR", *parent, "Parent of the cache directory")->required();
  return [parent](const Common& common, Io& io) {
    close_inherited();
    const LogLevel level = common.verbose ? LogLevel::Verbose : LogLevel::Normal;
    const auto done = run_cache_server(*parent, [&](const std::string& log) {
      if (!start_log(log, level)) (void)start_log("none", level);
    });
    if (done) return int{kOk};
    const bool killed = done.error().kind == ErrorKind::Interrupted;
    return report(io, done.error(), killed ? int{kDifferences} : kCannotServe);
  };
}

}  // namespace shardfs
