#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "cuda/device.h"
#include "cuda/route.h"
#include "fs/dataset/dataset.h"
#include "fs/mount/log.h"
#include "fs/mount/opening.h"
#include "fs/mount/report.h"
#include "fs/mount/scenes.h"
#include "fs/mount/session.h"
#include "tools/common/progress.h"
#include "tools/common/size.h"
#include "tools/shardfs/commands.h"
#include "tools/shardfs/daemon.h"
#include "tools/shardfs/mount_cache_options.h"
#include "tools/shardfs/mount_hot_list.h"
#include "tools/shardfs/mount_options.h"
#include "tools/shardfs/mount_place.h"
#include "tools/shardfs/mounts.h"

namespace shardfs {
namespace {

struct MountArguments {
  std::string archive;
  std::string directory;
  bool foreground = false;
  std::vector<std::string> options;
  std::string log, report;
  std::string gpu = "auto";
  MountCacheOptions cache;
};

int mount_exit(const Error& error) {
  if (error.kind == ErrorKind::Interrupted) return kInterrupted;
  if (error.kind == ErrorKind::Invalid) return kUsage;
  switch (error.sys_errno) {
    case EACCES:
    case EPERM:
      return kUsage;
    case EAGAIN:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return kSystem;
    default:
      return kFailed;
  }
}

/// A mount itself uses no GPU; where one is required, its job is not to begin without.
Result<void> check_gpu(const std::string& text) {
  const auto mode = gpu_mode_of(text);
  if (!mode) return fail(ErrorKind::Invalid, "--gpu " + mode.error().message);
  if (*mode != GpuMode::Require) return {};
  const auto device = open_cuda_device(0);
  if (!device) return fail(ErrorKind::Unsupported, "--gpu require: " + device.error().message);
  spdlog::info("GPU 0: {}", (*device)->facts().name);
  return {};
}

/// Of -o, the environment and who is asking.
Result<MountOptions> decide_options(const MountArguments& arguments, bool from_mount8) {
  MountOptions options;
  options.ownership.as_archived = ::geteuid() == 0;
  SHARDFS_CHECK(parse_mount_options(arguments.options, from_mount8, options));
  auto directory = absolute_path(arguments.directory);
  if (!directory && directory.error().kind == ErrorKind::NotFound)
    directory.error().message += fmt::format("; try: mkdir -p {}", arguments.directory);
  SHARDFS_TRY(options.directory, std::move(directory));
  SHARDFS_CHECK(check_gpu(arguments.gpu));
  options.gpu = arguments.gpu;
  const char* mask = std::getenv("SHARDFS_TEST_MASK_CAPS");
  if (mask != nullptr) {
    options.masked_capabilities = static_cast<std::uint32_t>(std::strtoul(mask, nullptr, 0));
  }
  options.push = std::getenv("SHARDFS_TEST_NO_PUSH") == nullptr;
  return options;
}

Result<std::string> decide_log(const MountArguments& arguments) {
  if (arguments.log.empty()) return arguments.foreground ? "stderr" : default_daemon_log();
  if (arguments.log == "stderr" || arguments.log == "syslog") return arguments.log;
  std::error_code failed;
  const auto path = std::filesystem::absolute(arguments.log, failed);
  if (failed) return fail_errno(failed.value(), arguments.log, "cannot open the log");
  return path.string();
}

LogLevel log_level(const Common& common) {
  if (common.verbose) return LogLevel::Verbose;
  return common.quiet ? LogLevel::Quiet : LogLevel::Normal;
}

// A signal that came while the mount was made, and was held back.
Result<void> check_signals() {
  const sigset_t ending = ending_signals();
  sigset_t pending, came;
  ::sigpending(&pending);
  sigandset(&came, &pending, &ending);
  if (sigisemptyset(&came) == 1) return {};
  return fail(ErrorKind::Interrupted, "interrupted; nothing is mounted");
}

Result<void> write_report(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::trunc);
  file << text << '\n' << std::flush;
  if (!file) return fail_errno(errno, path, "cannot write the report");
  return {};
}

/// What a mount leaves behind when it has ended: a report, and what the next job may begin with.
void conclude(const Session& session, const Dataset& dataset, const Scenes& scenes,
              const MountArguments& arguments) {
  for (const std::string& line : closing_report(session.final_stats())) spdlog::info("{}", line);
  if (scenes.now()->is_whole()) keep_hot_list(dataset, arguments.cache.hot_list);
  if (arguments.report.empty() || session.final_stats().empty()) return;
  if (const auto done = write_report(arguments.report, session.final_stats()); !done)
    spdlog::warn("{}", done.error().message);
}

std::string extent(const Dataset& dataset) {
  const ArchiveInfo info = dataset.archive().info();
  return fmt::format("{} files, {}", info.files, format_size(info.file_bytes));
}

/// The archive is open: staging may begin, and what is odd about it is logged.
void begin_use(const Dataset& dataset, const std::string& hot_list) {
  use_hot_list(dataset, hot_list);
  for (const std::string& note : dataset.archive().notes()) spdlog::warn("{}", note);
}

/// An archive that was not open yet when it was mounted is, or cannot be opened.
void settle(const Opening& opening, const Dataset& dataset, const std::string& hot_list,
            Session& session, Scenes& scenes) {
  auto done = opening.result();
  if (done) done = session.show_whole();
  if (!done) {
    spdlog::error("{}; what was found until then stays", done.error().message);
    return scenes.show_broken();
  }
  spdlog::info("{}: {}", dataset.path(), extent(dataset));
  begin_use(dataset, hot_list);
}

/// Says what is mounted, and of an archive that is still scanned what can be seen of it.
void announce(const Dataset& dataset, bool is_open, const MountOptions& options,
              const Common& common, Io& io) {
  const std::string line =
      is_open ? fmt::format("{}: {}, from {}", options.directory, extent(dataset), dataset.path())
              : fmt::format(
                    "{}: looking for files in {}; those found can be read, listings wait "
                    "until all are found",
                    options.directory, dataset.path());
  const std::string tier =
      fmt::format("tier {}: {}", name(dataset.tier().tier), dataset.tier().reason);
  spdlog::info("{}", line);
  spdlog::info("{}", tier);
  if (common.json) {
    io.out << archive_info_json(dataset) << '\n' << std::flush;
  } else if (!common.quiet) {
    io.err << "shardfs: " << line << "; " << tier << '\n' << std::flush;
  }
}

/// What a mount works on.
struct Work {
  const MountOptions& options;
  const MountArguments& arguments;
  const Common& common;
  const Dataset& dataset;
  Scenes& scenes;
  const Opening& opening;
  bool is_open;    ///< the archive is, when the mount begins
  Daemon* daemon;  ///< this process, where it is to be one
};

/// A thread with descriptors of its own would keep the caller's open: they are let go of before.
Result<void> serve(const Work& work, Io& io) {
  const MountArguments& arguments = work.arguments;
  SHARDFS_TRY(const std::string log, decide_log(arguments));
  SHARDFS_CHECK(start_log(log, log_level(work.common)));
  SHARDFS_TRY(const auto session, Session::mount(work.dataset, work.scenes, work.options));
  if (work.is_open) SHARDFS_CHECK(session->show_whole());
  SHARDFS_CHECK(check_signals());
  if (work.is_open) {
    begin_use(work.dataset, arguments.cache.hot_list);
    if (log != "stderr") tell_notes(io, work.dataset);
  }
  if (log != "stderr" || !arguments.foreground)
    announce(work.dataset, work.is_open, work.options, work.common, io);
  if (work.daemon != nullptr)
    work.daemon->leave_caller(log == "stderr" ? KeepStderr::Yes : KeepStderr::No);
  const auto ready = [&] {
    if (work.daemon != nullptr) work.daemon->ready();
  };
  const auto opened = [&] {
    settle(work.opening, work.dataset, arguments.cache.hot_list, *session, work.scenes);
  };
  const auto done = session->serve(ready, work.is_open ? -1 : work.opening.fd(), opened);
  conclude(*session, work.dataset, work.scenes, arguments);
  return done;
}

/// Relative paths are the caller's; the daemon works from the root directory.
Result<void> make_absolute(MountArguments& arguments) {
  for (std::string* path : {&arguments.report, &arguments.cache.hot_list}) {
    if (path->empty()) continue;
    std::error_code failed;
    *path = std::filesystem::absolute(*path, failed).string();
    if (failed) return fail_errno(failed.value(), *path, "cannot be used");
  }
  return {};
}

Result<void> mount(MountArguments arguments, const Common& common, Daemon* daemon, Io& io) {
  SHARDFS_CHECK(make_absolute(arguments));
  SHARDFS_TRY(const MountOptions options, decide_options(arguments, common.from_mount8));
  SHARDFS_TRY(const CacheSettings cache, cache_settings(arguments.cache));
  Progress progress(io, "shardfs: looking for files",
                    common.quiet ? Progress::Show::No : Progress::Show::Yes);
  SHARDFS_TRY(const auto dataset, Dataset::begin(arguments.archive, cache));
  Scenes scenes(options.ownership, options.subdir);
  std::atomic<bool> is_waited_for{true};
  const auto shown = [&, show = bytes_of(progress)](std::uint64_t done, std::uint64_t size) {
    if (is_waited_for) show(done, size);
  };
  Opening opening(*dataset, scenes, shown);
  const bool needs_all = common.json || !options.subdir.empty();
  SHARDFS_TRY(const bool is_open,
              opening.wait(needs_all ? std::chrono::hours(24 * 365) : options.scan_wait));
  is_waited_for = false;
  progress.finish();
  SHARDFS_TRY(const bool mounted,
              is_mounted(*dataset, is_open ? &dataset->archive() : nullptr, options));
  if (mounted) {
    if (!common.quiet) io.err << fmt::format("shardfs: {}: already mounted\n", options.directory);
    return {};
  }
  SHARDFS_CHECK(check_directory(options.directory));
  return serve({options, arguments, common, *dataset, scenes, opening, is_open, daemon}, io);
}

int run(const MountArguments& arguments, const Common& common, Daemon* daemon, Io& io) {
  const auto done = mount(arguments, common, daemon, io);
  return done ? int{kMounted} : report(io, done.error(), mount_exit(done.error()));
}

int run_in_background(const MountArguments& arguments, const Common& common, Io& io) {
  close_inherited();
  auto daemon = Daemon::fork(io);
  if (!daemon) return report(io, daemon.error(), kSystem);
  return daemon->is_child() ? run(arguments, common, &*daemon, io) : daemon->wait();
}

}  // namespace

Command mount_command(CLI::App& app) {
  auto arguments = std::make_shared<MountArguments>();
  app.add_option("ARCHIVE", arguments->archive, "A shard or another archive")->required();
  app.add_option("DIR", arguments->directory, "An empty directory of yours; shardfs umount ends it")
      ->required();
  app.add_flag("-f,--foreground", arguments->foreground, "Stay in the foreground");
  app.add_option("-o", arguments->options, "OPTION,... (below)")->allow_extra_args(false);
  add_cache_options(app, arguments->cache);
  if (const char* const gpu = std::getenv("SHARDFS_GPU"); gpu != nullptr && *gpu != '\0')
    arguments->gpu = gpu;
  app.add_option("--gpu", arguments->gpu, "off, auto or require: for reads into GPU memory");
  app.add_option("--report", arguments->report, "Write the figures there at the end, as JSON");
  app.add_option("--log", arguments->log, "stderr, syslog or a file; default: syslog, -f: stderr");
  app.footer(
      "-o: ro noexec allow_other auto_unmount owner=me|archive uid= gid= umask= "
      "subdir= scan_wait=");
  return [arguments](const Common& common, Io& io) {
    return arguments->foreground ? run(*arguments, common, nullptr, io)
                                 : run_in_background(*arguments, common, io);
  };
}

}  // namespace shardfs
