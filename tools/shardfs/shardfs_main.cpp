#include "tools/shardfs/shardfs_main.h"

#include <algorithm>
#include <array>
#include <exception>
#include <ostream>
#include <span>
#include <string_view>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "tools/common/command_line.h"
#include "tools/common/interrupt.h"
#include "tools/common/text.h"
#include "tools/shardfs/commands.h"

namespace shardfs {
namespace {

struct Entry {
  const char* name;
  const char* description;
  Command (*declare)(CLI::App&);
};

constexpr std::array kCommands{
    Entry{"mount", "Show an archive as a directory tree", mount_command},
    Entry{"umount", "Take a mount away", umount_command},
    Entry{"stats", "Print what a mount has done so far", stats_command},
    Entry{"mark", "Label this moment in the figures of a mount", mark_command},
    Entry{"warm", "Fetch ahead what will be read", warm_command},
    Entry{"cache", "List or drop what a node has cached", cache_command},
    Entry{"info", "Print facts about an archive", info_command},
    Entry{"ls", "List what is in an archive", list_command},
    Entry{"verify", "Check every byte of an archive", verify_command},
    Entry{"cache-server", "", cache_server_command},
};

bool is_command(std::string_view word) {
  return std::ranges::any_of(kCommands, [&](const Entry& entry) { return word == entry.name; });
}

/// A word where a command is expected.
bool is_no_command(const std::vector<std::string>& args) {
  return !args.empty() && !args[0].empty() && !args[0].starts_with('-') && !is_command(args[0]);
}

// mount(8) runs "shardfs ARCHIVE DIR -o OPTIONS".
bool is_from_mount8(const std::vector<std::string>& args) {
  return args.size() >= 2 && is_no_command(args) &&
         (args[0].contains('/') || std::ranges::count(args, "-o") > 0);
}

// Before parsing, which would complain about what else is missing.
bool asks_for(std::span<const std::string> args, std::string_view option) {
  const auto end = std::ranges::find(args, "--");
  return std::find(args.begin(), end, option) != end;
}

bool is_mount_or_umount(const std::vector<std::string>& args) {
  return !args.empty() && (args[0] == "mount" || args[0] == "umount");
}

struct Parser {
  explicit Parser(Common& common)
      : app("Archives as directory trees, for machine learning data.", "shardfs") {
    app.set_help_flag();
    app.require_subcommand(1);
    app.fallthrough();
    app.add_flag("-q,--quiet", common.quiet, "Print errors only");
    app.add_flag("-v,--verbose", common.verbose, "Log more");
    app.add_flag("--json", common.json, "Print one JSON object");
    app.add_flag("-h,--help", looked_at_before, "Print this, or a command's own help");
    app.add_flag("--version", looked_at_before, "Print the version");
    for (const Entry& entry : kCommands) {
      CLI::App* sub = app.add_subcommand(entry.name, entry.description);
      sub->set_help_flag();
      if (*entry.description == '\0') sub->group("");  // not in the list for people
      commands.push_back(entry.declare(*sub));
    }
  }

  [[nodiscard]] std::string help(const std::vector<std::string>& args) {
    if (args.empty() || !is_command(args[0])) return app.help();
    return app.get_subcommand(args[0])->help("shardfs");
  }

  [[nodiscard]] const Command& chosen() const {
    const std::string name = app.get_subcommands().front()->get_name();
    const auto at = std::ranges::find(kCommands, name, &Entry::name);
    return commands[static_cast<std::size_t>(at - kCommands.begin())];
  }

  CLI::App app;
  bool looked_at_before = false;
  std::vector<Command> commands;
};

int run(std::vector<std::string> args, Io& io) {
  Common common;
  common.from_mount8 = is_from_mount8(args);
  if (common.from_mount8) args.insert(args.begin(), "mount");
  if (is_no_command(args))
    return report(io, {ErrorKind::Invalid, 0, args[0] + ": no such command; try: shardfs --help"},
                  kFatal);
  Parser parser(common);
  if (args.empty() || asks_for(args, "-h") || asks_for(args, "--help")) {
    (args.empty() ? io.err : io.out) << parser.help(args);
    return args.empty() ? kFatal : kOk;
  }
  if (asks_for(args, "--version")) {
    io.out << "shardfs " << SHARDFS_VERSION << '\n';
    return kOk;
  }
  if (auto parsed = parse_command_line(parser.app, args); !parsed) {
    const std::string command = !args.empty() && is_command(args[0]) ? args[0] + " " : "";
    parsed.error().message += fmt::format("; try: shardfs {}--help", command);
    return report(io, parsed.error(), is_mount_or_umount(args) ? int{kUsage} : int{kFatal});
  }
  const int code = parser.chosen()(common, io);
  io.out.flush();
  if (io.out || code != kOk) return code;
  return report(io, {ErrorKind::Io, EIO, "standard output: cannot be written"}, kFatal);
}

}  // namespace

void tell_notes(Io& io, const Dataset& dataset) {
  for (const std::string& note : dataset.archive().notes())
    io.err << "shardfs: " << printable(note) << '\n' << std::flush;
}

int report(Io& io, const Error& error, int code) {
  io.err << "shardfs: " << error.message << '\n' << std::flush;
  return code;
}

int exit_code(const Error& error) {
  return error.kind == ErrorKind::Interrupted ? 128 + Interrupt::signal() : int{kFatal};
}

int shardfs_main(const std::vector<std::string>& args, Io& io) {
  try {
    return run(args, io);
  } catch (const std::exception& bug) {  // No expected failure comes this way.
    io.err << "shardfs: internal error: " << bug.what() << '\n';
    return is_mount_or_umount(args) ? int{kBug} : int{kFatal};
  }
}

}  // namespace shardfs
