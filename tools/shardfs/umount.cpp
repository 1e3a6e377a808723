#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fs/base/unique_fd.h"
#include "fs/mount/report.h"
#include "fs/mount/unmount.h"
#include "tools/shardfs/commands.h"
#include "tools/shardfs/mounts.h"

namespace shardfs {
namespace {

constexpr int kWaitMs = 5000;
/// A mount may be in use by itself for a moment (ListAhead), and by a program that is just ending.
constexpr std::chrono::milliseconds kBusyPatience{1000}, kBusyRetry{20};

struct UmountArguments {
  std::vector<std::string> directories;
  bool lazy = false;
  std::string job;
  CLI::Option* by_job = nullptr;
};

// Not by the C library's function, which old ones lack.
UniqueFd open_process(pid_t pid) {
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

struct Daemon {
  UniqueFd process;  ///< empty if it cannot be told
  bool is_dead = false;
};

// What serves `directory`: to be asked before unmounting.
Daemon find_daemon(const std::string& directory) {
  const auto info = read_report(directory, kInfoXattr);
  if (!info)
    return {{}, info.error().sys_errno == ENOTCONN || info.error().sys_errno == ECONNABORTED};
  const pid_t pid = info->value("pid", 0);
  std::string name;
  std::ifstream(fmt::format("/proc/{}/comm", pid)) >>
      name;  // Another pid namespace's number is no good.
  return {name == "shardfs" ? open_process(pid) : UniqueFd(), false};
}

bool wait_for_end(const UniqueFd& process) {
  if (!process) return true;
  pollfd wait{process.get(), POLLIN, 0};
  return ::poll(&wait, 1, kWaitMs) != 0;
}

Result<void> unmount_patiently(const std::string& path, Unmount how) {
  const auto end = std::chrono::steady_clock::now() + kBusyPatience;
  auto done = unmount(path, how);
  while (!done && done.error().sys_errno == EBUSY && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(kBusyRetry);
    done = unmount(path, how);
  }
  return done;
}

Result<void> umount_one(const std::string& directory, bool lazy, Io& io) {
  SHARDFS_TRY(const std::string path, absolute_path(directory));
  SHARDFS_TRY(const auto there, mount_at(path));
  if (!there || !there->is_shardfs()) {
    return std::unexpected(Error{ErrorKind::Io, EINVAL,
                                 path + ": not mounted by shardfs; try: findmnt -t fuse.shardfs"});
  }
  const Daemon daemon = find_daemon(path);
  // Whoever still has files of a dead mount open can do nothing with them.
  SHARDFS_CHECK(
      unmount_patiently(path, lazy || daemon.is_dead ? Unmount::Lazily : Unmount::IfUnused));
  if (!wait_for_end(daemon.process)) {
    io.err << fmt::format("shardfs: {}: unmounted; its process ends when its last file is closed\n",
                          path);
  }
  return {};
}

// Whether the mount's daemon was started in the Slurm job `job`; "" stands for any.
bool is_of_job(const MountPoint& mount, const std::string& job) {
  if (job.empty()) return true;
  const auto info = read_report(mount.directory, kInfoXattr);
  return info && info->value("job", "") == job;
}

Result<std::vector<std::string>> mounts_of_job(const std::string& job) {
  SHARDFS_TRY(const auto all, mount_points());
  std::vector<std::string> found;
  // The last one mounted first: it may hide others.
  for (auto mount = all.rbegin(); mount != all.rend(); ++mount) {
    if (mount->is_shardfs() && mount->user == ::getuid() && is_of_job(*mount, job)) {
      found.push_back(mount->directory);
    }
  }
  return found;
}

int umount_exit(const Error& error) {
  const bool refused = error.kind == ErrorKind::Unsupported || error.kind == ErrorKind::Invalid ||
                       error.sys_errno == EPERM || error.sys_errno == EACCES;
  return refused ? kUsage : kFailed;
}

int umount_all(const std::vector<std::string>& directories, bool lazy, Io& io) {
  int code = kMounted;
  std::size_t failed = 0;
  for (const std::string& directory : directories) {
    const auto done = umount_one(directory, lazy, io);
    if (done) continue;
    ++failed;
    code = report(io, done.error(), umount_exit(done.error()));
  }
  return failed > 0 && failed < directories.size() ? int{kSomeSucceeded} : code;
}

int umount(const UmountArguments& arguments, Io& io) {
  const bool by_job = arguments.by_job->count() > 0;
  if (by_job != arguments.directories.empty()) {
    const Error error{ErrorKind::Invalid, 0,
                      "umount: either DIR or --job; try: shardfs umount --help"};
    return report(io, error, kUsage);
  }
  if (!by_job) return umount_all(arguments.directories, arguments.lazy, io);
  // Another job of the same user may be on the node.
  const char* const this_job = std::getenv("SLURM_JOB_ID");
  const auto found =
      mounts_of_job(arguments.job.empty() && this_job != nullptr ? this_job : arguments.job);
  if (!found) return report(io, found.error(), kSystem);
  return umount_all(*found, arguments.lazy, io);
}

}  // namespace

Command umount_command(CLI::App& app) {
  auto arguments = std::make_shared<UmountArguments>();
  app.add_option("DIR", arguments->directories, "Where it is mounted");
  app.add_flag("-l,--lazy", arguments->lazy, "Even if files are in use; those go on until closed");
  arguments->by_job =
      app.add_option("--job", arguments->job,
                     "Those of the Slurm job ID, or of this job; outside of one all yours")
          ->expected(0, 1)
          ->type_name("[ID]");
  return [arguments](const Common&, Io& io) { return umount(*arguments, io); };
}

}  // namespace shardfs
