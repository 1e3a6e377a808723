#include <array>
#include <chrono>
#include <ctime>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>

#include "fs/dataset/dataset.h"
#include "tools/common/json.h"
#include "tools/common/text.h"
#include "tools/shardfs/commands.h"
#include "tools/shardfs/mounts.h"

namespace shardfs {
namespace {

struct ListArguments {
  std::string archive;
  std::string path;
  bool details = false;
  bool recursive = false;
  bool zeros = false;
};

char type_letter(std::uint32_t mode) {
  switch (mode & S_IFMT) {
    case S_IFDIR:
      return 'd';
    case S_IFLNK:
      return 'l';
    case S_IFCHR:
      return 'c';
    case S_IFBLK:
      return 'b';
    case S_IFIFO:
      return 'p';
    default:
      return '-';
  }
}

/// As ls -l writes it: "-rwxr-xr-x".
std::string mode_text(std::uint32_t mode) {
  std::string text(1, type_letter(mode));
  for (int bit = 8; bit >= 0; --bit) text += (mode >> bit & 1) != 0 ? "xwr"[bit % 3] : '-';
  const auto special = [&](std::uint32_t flag, std::size_t at, char set, char unset) {
    if ((mode & flag) != 0) text[at] = text[at] == 'x' ? set : unset;
  };
  special(S_ISUID, 3, 's', 'S');
  special(S_ISGID, 6, 's', 'S');
  special(S_ISVTX, 9, 't', 'T');
  return text;
}

std::string time_text(Time when) {
  const std::time_t seconds = when.seconds;
  std::tm parts = {};
  if (::localtime_r(&seconds, &parts) == nullptr) return std::to_string(when.seconds);
  std::array<char, 64> text;
  const std::size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &parts);
  return {text.data(), length};
}

class Lister {
 public:
  Lister(const Tree& tree, const ListArguments& arguments, const Common& common, Io& io)
      : tree_(tree), arguments_(arguments), json_(common.json), io_(io) {}

  Result<void> list(const std::string& path) {
    SHARDFS_TRY(const Entry entry, tree_.find(path));
    if (!tree_.child_range(entry)) return print(entry, path);
    return list_directory(entry, arguments_.recursive && !path.empty() ? path + "/" : "");
  }

 private:
  Result<void> list_directory(Entry directory, const std::string& prefix) {
    Result<void> failed;
    SHARDFS_CHECK(tree_.children(directory, 0, [&](Entry entry, std::string_view name) {
      failed = visit(entry, prefix + std::string(name));
      return failed.has_value() && io_.out.good();
    }));
    return failed;
  }

  Result<void> visit(Entry entry, const std::string& shown) {
    // No packed tree is as deep; without an end here a made-up one would take all of the stack.
    if (shown.size() > kMaxPath)
      return fail(ErrorKind::Corrupt, fmt::format("{}: index: a path of more than {} bytes",
                                                  arguments_.archive, kMaxPath));
    SHARDFS_CHECK(print(entry, shown));
    if (!arguments_.recursive || !tree_.child_range(entry)) return {};
    return list_directory(entry, shown + "/");
  }

  Result<void> print(Entry entry, const std::string& shown) {
    SHARDFS_TRY(const Attributes attributes, tree_.attributes(entry));
    SHARDFS_TRY(const std::string link, link_of(attributes));
    if (json_) {
      print_json(attributes, shown, link);
      return {};
    }
    const auto name = [&](const std::string& text) {
      return arguments_.zeros ? text : printable(text);
    };
    if (arguments_.details) io_.out << details(attributes);
    io_.out << name(shown);
    if (arguments_.details && S_ISLNK(attributes.mode)) io_.out << " -> " << name(link);
    io_.out << (arguments_.zeros ? '\0' : '\n');
    return {};
  }

  Result<std::string> link_of(const Attributes& attributes) const {
    if (!S_ISLNK(attributes.mode)) return std::string();
    SHARDFS_TRY(const std::string_view link, tree_.link(attributes.inode));
    return std::string(link);
  }

  static std::string details(const Attributes& a) {
    const bool device = S_ISCHR(a.mode) || S_ISBLK(a.mode);
    const std::string size =
        device ? fmt::format("{}, {}", a.device_major, a.device_minor) : std::to_string(a.size);
    return fmt::format("{} {:>3} {:>5} {:>5} {:>12} {} ", mode_text(a.mode), a.links, a.uid, a.gid,
                       size, time_text(a.mtime));
  }

  void print_json(const Attributes& a, const std::string& path, const std::string& link) {
    nlohmann::ordered_json json = {
        {"path", path},
        {"type", std::string(1, S_ISREG(a.mode) ? 'f' : type_letter(a.mode))},
        {"mode", fmt::format("{:04o}", a.mode & 07777)},
        {"uid", a.uid},
        {"gid", a.gid},
        {"size", a.size},
        {"mtime_s", a.mtime.seconds},
        {"mtime_ns", a.mtime.nanoseconds}};
    if (!link.empty()) json["link"] = link;
    write_json(io_, json);
  }

  const Tree& tree_;
  const ListArguments& arguments_;
  bool json_;
  Io& io_;
};

std::string within_archive(std::string_view path) {
  while (path.starts_with("./")) path.remove_prefix(2);
  while (path.starts_with('/')) path.remove_prefix(1);
  while (path.ends_with('/')) path.remove_suffix(1);
  return path == "." ? "" : std::string(path);
}

Result<void> list(const ListArguments& arguments, const Common& common, Io& io) {
  SHARDFS_TRY(const auto dataset, Dataset::open(archive_at(arguments.archive)));
  tell_notes(io, *dataset);
  const std::string path = within_archive(arguments.path);
  auto done = Lister(dataset->tree(), arguments, common, io).list(path);
  if (!done && done.error().kind == ErrorKind::NotFound) {
    return fail(ErrorKind::NotFound,
                fmt::format("{}: not in {}", printable(path), arguments.archive));
  }
  return done;
}

}  // namespace

Command list_command(CLI::App& app) {
  auto arguments = std::make_shared<ListArguments>();
  app.add_option("ARCHIVE", arguments->archive,
                 "A shard or another archive, or where it is mounted")
      ->required();
  app.add_option("PATH", arguments->path, "A file or directory in it");
  app.add_flag("-l", arguments->details, "Mode, links, owner, group, size and time too");
  app.add_flag("-R", arguments->recursive, "Whatever is below, by its path");
  app.add_flag("-0", arguments->zeros, "Names as they are, each ended by a NUL");
  return [arguments](const Common& common, Io& io) {
    const auto done = list(*arguments, common, io);
    io.out << std::flush;
    return done ? int{kOk} : report(io, done.error(), kFatal);
  };
}

}  // namespace shardfs
