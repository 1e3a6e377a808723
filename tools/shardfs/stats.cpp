#include <chrono>
#include <memory>
#include <ostream>
#include <string>
#include <thread>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <signal.h>

#include "fs/mount/report.h"
#include "tools/common/interrupt.h"
#include "tools/common/json.h"
#include "tools/common/progress.h"
#include "tools/common/size.h"
#include "tools/common/text.h"
#include "tools/shardfs/commands.h"
#include "tools/shardfs/mounts.h"

namespace shardfs {
namespace {

using Json = nlohmann::ordered_json;

struct StatsArguments {
  std::string mount;
  bool prometheus = false;
  double interval_s = 2;
  CLI::Option* watch = nullptr;
};

std::string requests_line(const Json& fuse) {
  std::string line;
  for (const auto& [op, count] : fuse.items()) {
    if (count != 0)
      line += fmt::format("{}{} {}", line.empty() ? "" : ", ", op, count.get<std::uint64_t>());
  }
  return line.empty() ? "none" : line;
}

void print_cache(const Json& stats, Io& io) {
  const Json& cache = stats["cache"];
  if (!cache.is_object()) return;
  const std::string state = cache["state"];
  if (!cache.contains("dir")) {
    io.out << fmt::format("cache     {}\n", state);
    return;
  }
  io.out << fmt::format("cache     {}, {} of the archive, in {} ({})\n", state,
                        format_size(stats["staged_bytes"].get<std::uint64_t>()),
                        printable(cache["dir"].get<std::string>()), cache["fs"].get<std::string>());
}

void print_scan(const Json& stats, Io& io) {
  const Json& scan = stats["scan"];
  if (!scan.is_object()) return;
  io.out << fmt::format("scan      {}: {} of {}; there may be more files\n",
                        scan["state"].get<std::string>(),
                        format_size(scan["done_bytes"].get<std::uint64_t>()),
                        format_size(scan["bytes"].get<std::uint64_t>()));
}

void print_text(const Json& stats, Io& io) {
  const Json &daemon = stats["daemon"], &store = stats["store"];
  const auto bytes = [](const Json& of, const char* key) {
    return format_size(of[key].get<std::uint64_t>());
  };
  io.out << fmt::format("archive   {}\n", printable(stats["archive"].get<std::string>()))
         << fmt::format("holds     {} files, {}\n", stats["files"].get<std::uint64_t>(),
                        bytes(stats, "bytes"));
  print_scan(stats, io);
  io.out << fmt::format(
                "mounted   {} ago\n",
                format_duration(std::chrono::seconds(stats["uptime_s"].get<std::int64_t>())))
         << fmt::format("tier      {} ({})\n", stats["tier"].get<std::string>(),
                        stats["tier_reason"].get<std::string>())
         << fmt::format("requests  {}\n", requests_line(stats["fuse"]))
         << fmt::format("reads     {} answered, {} more pushed, {:.3f} s waited\n",
                        bytes(daemon, "read_bytes"), bytes(daemon, "pushed_bytes"),
                        daemon["wait_s"].get<double>())
         << fmt::format("from      {} of the cache, {} that had to be waited for\n",
                        bytes(daemon, "hit_bytes"), bytes(daemon, "miss_bytes"))
         << fmt::format("store     {} requests, {}, {} errors, {} retries\n",
                        store["requests"].get<std::uint64_t>(), bytes(store, "bytes"),
                        store["errors"].get<std::uint64_t>(),
                        store["retries"].get<std::uint64_t>());
  print_cache(stats, io);
  for (const Json& mark : stats["marks"]) {
    io.out << fmt::format("mark      {:.3f} s {}\n", mark["t_s"].get<double>(),
                          printable(mark["label"].get<std::string>()));
  }
  for (const Json& error : stats["errors"]) {
    io.out << fmt::format("error     {}\n", error["text"].get<std::string>());
  }
  if (stats["suggestion"].is_string())
    io.out << fmt::format("try       {}\n", stats["suggestion"].get<std::string>());
  io.out << "Reads that the kernel's page cache answers never reach shardfs and are not counted.\n";
}

std::string label(const std::string& value) {
  std::string text;
  for (const char c : value) {
    if (c == '\\' || c == '"') text.push_back('\\');
    text += c == '\n' ? std::string("\\n") : std::string(1, c);
  }
  return text;
}

void print_prometheus(const Json& stats, const std::string& mount, Io& io) {
  const std::string labels = fmt::format("archive=\"{}\",mount=\"{}\"",
                                         label(stats["archive"].get<std::string>()), label(mount));
  const auto metric = [&](std::string_view name, std::string_view type, std::string_view help,
                          double value) {
    io.out << fmt::format(
        "# HELP shardfs_{0} {1}\n# TYPE shardfs_{0} {2}\nshardfs_{0}{{{3}}} {4}\n", name, help,
        type, labels, value);
  };
  io.out << "# HELP shardfs_fuse_requests_total Messages between kernel and shardfs.\n"
            "# TYPE shardfs_fuse_requests_total counter\n";
  for (const auto& [op, count] : stats["fuse"].items()) {
    io.out << fmt::format("shardfs_fuse_requests_total{{{},op=\"{}\"}} {}\n", labels, op,
                          count.get<std::uint64_t>());
  }
  const Json &daemon = stats["daemon"], &store = stats["store"];
  metric("files", "gauge", "Files in the archive.", stats["files"]);
  metric("bytes", "gauge", "Bytes of these files.", stats["bytes"]);
  metric("uptime_seconds", "gauge", "Time since mounting.", stats["uptime_s"]);
  metric("read_bytes_total", "counter", "Bytes handed to the kernel on request.",
         daemon["read_bytes"]);
  metric("pushed_bytes_total", "counter", "Bytes handed to the kernel unasked.",
         daemon["pushed_bytes"]);
  metric("wait_seconds_total", "counter", "Time spent on reads, over all threads.",
         daemon["wait_s"]);
  metric("hit_bytes_total", "counter", "Bytes of the archive found in the cache.",
         daemon["hit_bytes"]);
  metric("miss_bytes_total", "counter", "Bytes of the archive that had to be waited for.",
         daemon["miss_bytes"]);
  metric("staged_bytes", "gauge", "Bytes of the archive in the cache.", stats["staged_bytes"]);
  metric("store_small_requests_total", "counter", "Of the reads, those of less than 4 MiB.",
         store["small_requests"]);
  metric("store_retries_total", "counter", "Reads that failed and were tried again.",
         store["retries"]);
  metric("store_stall_seconds_total", "counter", "Time beyond a second that single reads took.",
         store["stall_s"]);
  metric("store_requests_total", "counter", "Reads of the archive file.", store["requests"]);
  metric("store_bytes_total", "counter", "Bytes of these reads.", store["bytes"]);
  metric("store_errors_total", "counter", "Failed reads of the archive file.", store["errors"]);
  metric("failed_requests_total", "counter", "Requests answered with an error.",
         stats["failed_requests"]);
}

void print(const Json& stats, const StatsArguments& arguments, const Common& common, Io& io) {
  if (common.json) {
    write_json(io, stats);
  } else if (arguments.prometheus) {
    print_prometheus(stats, arguments.mount, io);
  } else {
    print_text(stats, io);
  }
  io.out << std::flush;
}

void sleep_interruptibly(double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  while (Interrupt::signal() == 0 && Clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

Result<void> stats(const StatsArguments& arguments, const Common& common, Io& io) {
  SHARDFS_TRY(const std::string directory, absolute_path(arguments.mount));
  const Interrupt interrupt;
  while (true) {
    SHARDFS_TRY(const Json json, read_report(directory, kStatsXattr));
    print(json, arguments, common, io);
    if (arguments.watch->count() == 0) return {};
    sleep_interruptibly(arguments.interval_s);
    if (Interrupt::signal() != 0) return {};
    if (!common.json) io.out << '\n';
  }
}

}  // namespace

Command stats_command(CLI::App& app) {
  auto arguments = std::make_shared<StatsArguments>();
  app.add_option("MOUNT", arguments->mount, "Where it is mounted")->required();
  app.add_flag("--prometheus", arguments->prometheus, "Print Prometheus text");
  arguments->watch = app.add_option("--watch", arguments->interval_s, "Again every S seconds (2)")
                         ->expected(0, 1)
                         ->type_name("[S]")
                         ->check(CLI::Range(0.1, 86400.0));
  return [arguments](const Common& common, Io& io) {
    const auto done = stats(*arguments, common, io);
    return done ? int{kOk} : report(io, done.error(), exit_code(done.error()));
  };
}

}  // namespace shardfs
