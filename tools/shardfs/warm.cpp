#include <algorithm>
#include <chrono>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <thread>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "fs/mount/control.h"
#include "fs/mount/report.h"
#include "tools/common/interrupt.h"
#include "tools/common/path_list.h"
#include "tools/shardfs/commands.h"
#include "tools/shardfs/mounts.h"

namespace shardfs {
namespace {

struct WarmArguments {
  std::string mount, list;
  bool zero = false;
  bool wait = false;
};

/// Sends names as they come, as many at a time as one command takes.
class Sender {
 public:
  Sender(const UniqueFd& root, const std::string& mount) : root_(root), mount_(mount) {
    command_->flags = WarmCommand::kReplace;
  }

  Result<void> add(std::string_view name) {
    while (name.starts_with("./")) name.remove_prefix(2);
    if (name.empty()) return {};
    if (name.size() + 1 > command_->names.size() - command_->size) {
      command_->flags |= WarmCommand::kMore;
      SHARDFS_CHECK(send());
    }
    if (name.size() + 1 > command_->names.size()) {
      ++unknown_;
      return {};
    }
    std::ranges::copy(name, command_->names.begin() + command_->size);
    command_->size += static_cast<std::uint32_t>(name.size() + 1);
    command_->names[command_->size - 1] = '\0';
    ++sent_;
    return {};
  }

  Result<void> all() {
    command_->flags |= WarmCommand::kAll;
    return send();
  }

  Result<void> send() {
    SHARDFS_CHECK(send_command(root_, mount_, kWarmIoctl, command_.get()));
    unknown_ += command_->unknown;
    *command_ = {};
    return {};
  }

  [[nodiscard]] std::uint64_t sent() const { return sent_; }
  [[nodiscard]] std::uint64_t unknown() const { return unknown_; }

 private:
  const UniqueFd& root_;
  const std::string& mount_;
  std::unique_ptr<WarmCommand> command_ = std::make_unique<WarmCommand>();
  std::uint64_t sent_ = 0, unknown_ = 0;
};

Result<void> send_list(const WarmArguments& arguments, Sender& sender) {
  SHARDFS_TRY(const auto names, read_path_list(arguments.list, arguments.zero));
  for (const std::string& name : names) SHARDFS_CHECK(sender.add(name));
  return sender.send();
}

/// What the cache says of hints, bytes.
struct Hinted {
  std::int64_t server = 0;  ///< its process
  std::uint64_t left = 0, failed = 0;
};
Result<Hinted> hinted_in(const std::string& directory) {
  SHARDFS_TRY(const auto stats, read_report(directory, kStatsXattr));
  const auto& cache = stats["cache"];
  if (!cache.contains("hinted_bytes"))
    return fail(ErrorKind::Io, directory + ": its cache server is not there; try: again");
  return Hinted{cache["server"], cache["hinted_bytes"], cache["failed_hint_bytes"]};
}

/// Until all that was hinted has been fetched, or is held for its reader. Io: some could not be
/// read.
Result<void> wait_until_warm(const std::string& directory, const Hinted& before) {
  const Interrupt interrupt;
  while (Interrupt::signal() == 0) {
    SHARDFS_TRY(const Hinted now, hinted_in(directory));
    if (now.server != before.server)
      return fail(ErrorKind::Io, directory + ": its cache server has ended meanwhile; try: again");
    if (now.failed != before.failed && now.left == 0)
      return fail(ErrorKind::Io, directory + ": not all of it could be read; see the log");
    if (now.left == 0) return {};
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  return fail(ErrorKind::Interrupted, "interrupted; the cache goes on");
}

Result<std::uint64_t> warm(const WarmArguments& arguments, const Common& common, Io& io) {
  SHARDFS_TRY(const std::string directory, absolute_path(arguments.mount));
  SHARDFS_TRY(const UniqueFd root, open_root(directory));
  Sender sender(root, directory);
  Hinted before;
  if (arguments.wait) {
    SHARDFS_TRY(before, hinted_in(directory));
  }
  SHARDFS_CHECK(arguments.list.empty() ? sender.all() : send_list(arguments, sender));
  if (sender.unknown() > 0)
    io.err << fmt::format("shardfs: {} of {} names are no files of {}\n", sender.unknown(),
                          sender.sent(), directory);
  if (arguments.wait) SHARDFS_CHECK(wait_until_warm(directory, before));
  if (common.json)
    io.out << fmt::format("{{\"schema\":1,\"files\":{},\"unknown\":{}}}\n", sender.sent(),
                          sender.unknown());
  return sender.unknown();
}

}  // namespace

Command warm_command(CLI::App& app) {
  auto arguments = std::make_shared<WarmArguments>();
  app.add_option("MOUNT", arguments->mount, "Where it is mounted")->required();
  app.add_option("--files-from", arguments->list,
                 "Paths in the mount, a line each, in the order of reading; - is standard input");
  app.add_flag("-0,--null", arguments->zero, "Paths end in NUL");
  app.add_flag("--wait", arguments->wait, "Return when all is fetched that fits");
  app.footer(
      "Returns at once; the cache fetches ahead of the readers, as far as there is room.\n"
      "Without a list: the whole archive, in its own order. A new list replaces the last one.");
  return [arguments](const Common& common, Io& io) {
    const auto unknown = warm(*arguments, common, io);
    if (!unknown) return report(io, unknown.error(), exit_code(unknown.error()));
    return *unknown == 0 ? int{kOk} : int{kDifferences};
  };
}

}  // namespace shardfs
