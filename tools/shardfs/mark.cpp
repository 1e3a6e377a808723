#include <algorithm>
#include <cerrno>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>

#include "fs/mount/control.h"
#include "tools/shardfs/commands.h"
#include "tools/shardfs/mounts.h"

namespace shardfs {
namespace {

struct MarkArguments {
  std::string mount, label;
};

Result<void> mark(const MarkArguments& arguments) {
  MarkCommand command;
  if (arguments.label.size() >= command.label.size())
    return fail(ErrorKind::Invalid, "the label is longer than 255 bytes");
  std::ranges::copy(arguments.label, command.label.begin());
  SHARDFS_TRY(const UniqueFd root, open_root(arguments.mount));
  return send_command(root, arguments.mount, kMarkIoctl, &command);
}

}  // namespace

Command mark_command(CLI::App& app) {
  auto arguments = std::make_shared<MarkArguments>();
  app.add_option("MOUNT", arguments->mount, "Where it is mounted")->required();
  app.add_option("LABEL", arguments->label, "Text, e.g. \"epoch 3\"");
  app.footer("The figures so far go with it: see marks in shardfs stats --json.");
  return [arguments](const Common&, Io& io) {
    const auto done = mark(*arguments);
    return done ? int{kOk} : report(io, done.error(), exit_code(done.error()));
  };
}

}  // namespace shardfs
