#include <filesystem>
#include <memory>
#include <ostream>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "cache/client/server_link.h"
#include "cache/common/cache_directory.h"
#include "tools/common/json.h"
#include "tools/common/size.h"
#include "tools/common/text.h"
#include "tools/shardfs/commands.h"
#include "tools/shardfs/mount_cache_options.h"

namespace shardfs {
namespace {

using Json = nlohmann::ordered_json;

struct CacheArguments {
  std::string action;
  MountCacheOptions cache;
};

void print(const Json& listing, Io& io) {
  for (const Json& one : listing["archives"]) {
    io.out << fmt::format(
        "{}  {:>10}  {:<9} {}{}\n", one["id"].get<std::string>().substr(0, 12),
        format_size(one["cached_bytes"].get<std::uint64_t>()), one["state"].get<std::string>(),
        printable(one["archive"].get<std::string>()), one["clients"] > 0 ? "  (mounted)" : "");
  }
  if (const auto others = listing["not_listed"].get<std::uint64_t>(); others > 0)
    io.out << fmt::format("and {} others\n", others);
  io.out << fmt::format(
      "{} in {} ({}), of at most {}\n", format_size(listing["used_bytes"].get<std::uint64_t>()),
      printable(listing["dir"].get<std::string>()), listing["fs"].get<std::string>(),
      format_size(listing["limit_bytes"].get<std::uint64_t>()));
}

Result<Json> ask(const std::string& parent, Message request, ByteSpan payload) {
  SHARDFS_TRY(const std::string text, ServerLink::ask_directory(parent, request, payload));
  Json json = Json::parse(text, nullptr, false);
  if (!json.is_object())
    return fail(ErrorKind::Corrupt, parent + ": the server's answer is no JSON");
  return json;
}

/// What is to be left: nothing for clear, what the options allow for gc.
ClearRequest request_for(const CacheArguments& arguments, const CacheSettings& settings,
                         const FileSystem& disk) {
  if (arguments.action == "clear") return {};
  std::uint64_t keep = settings.limit;
  if (settings.limit_percent) keep = disk.bytes / 100 * *settings.limit_percent;
  return {
      .keep_bytes = keep,
      .free_bytes = settings.reserve.value_or(disk.bytes / 100 * CacheSettings::kReservePercent)};
}

Result<void> run(const CacheArguments& arguments, const Common& common, Io& io) {
  SHARDFS_TRY(const CacheSettings settings, cache_settings(arguments.cache));
  if (settings.directory.empty())
    return fail(ErrorKind::Invalid, "no cache directory; try: --cache-dir DIR");
  std::error_code ignored;
  const auto path = std::filesystem::path(settings.directory) / cache_directory_name();
  if (!std::filesystem::exists(path, ignored)) {
    if (!common.quiet)
      io.err << fmt::format("shardfs: {}: nothing is cached there\n", path.string());
    return {};
  }
  if (arguments.action == "ls") {
    SHARDFS_TRY(Json listing,
                ask(settings.directory, Message::Stat, encode(StatRequest{UINT32_MAX})));
    if (common.json) {
      write_json(io, listing);
    } else {
      print(listing, io);
    }
    return {};
  }
  SHARDFS_TRY(const auto directory, CacheDirectory::open(settings.directory));
  const auto request = request_for(arguments, settings, directory.file_system());
  SHARDFS_TRY(const Json done, ask(settings.directory, Message::Clear, encode(request)));
  if (common.json) {
    write_json(io, done);
  } else if (!common.quiet) {
    io.err << fmt::format("shardfs: {} freed\n",
                          format_size(done["freed_bytes"].get<std::uint64_t>()));
  }
  return {};
}

}  // namespace

Command cache_command(CLI::App& app) {
  auto arguments = std::make_shared<CacheArguments>();
  app.add_option("ACTION", arguments->action,
                 "ls, clear (what no mount uses) or gc (beyond limits)")
      ->required()
      ->check(CLI::IsMember({"ls", "clear", "gc"}));
  app.add_option("--cache-dir", arguments->cache.directory,
                 "Parent of the cache; default: $SLURM_TMPDIR");
  app.add_option("--cache-size", arguments->cache.size, "gc: most bytes to keep: N[KMGT] or N%");
  app.add_option("--reserve", arguments->cache.reserve, "gc: bytes to be free: N[KMGT] or N%; 5%");
  return [arguments](const Common& common, Io& io) {
    const auto done = run(*arguments, common, io);
    return done ? int{kOk} : report(io, done.error(), exit_code(done.error()));
  };
}

}  // namespace shardfs
