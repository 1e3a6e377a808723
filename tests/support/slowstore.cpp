// Serves a directory of regular files read-only, as slowly and faultily as tests want a network
// file system to be, and counts what it serves.
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fuse_lowlevel.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fs/base/unique_fd.h"
#include "fs/mount/unmount.h"
#include "tests/support/slowstore_control.h"
#include "tests/support/slowstore_counters.h"
#include "tests/support/slowstore_files.h"
#include "tests/support/slowstore_reads.h"

namespace slowstore {
namespace {

using shardfs::Result;
using shardfs::UniqueFd;

struct Options {
  std::string directory, mountpoint, control;
  double latency_ms = 3;
  double bandwidth = 1e9;
  unsigned blksize = 4 << 20;
  unsigned readahead_kib = 4096;
  bool page_cache = false;
  bool allow_other = false;
  bool while_stdin = false;
};

struct Store {
  Store(Options chosen, UniqueFd directory)
      : options(std::move(chosen)),
        files(std::move(directory)),
        reads(counters, {.latency = std::chrono::duration<double, std::milli>(options.latency_ms),
                         .bandwidth = options.bandwidth}) {}

  const Options options;
  Files files;
  Counters counters;
  Reads reads;
};

Store& store_of(fuse_req_t request) { return *static_cast<Store*>(fuse_req_userdata(request)); }

// -------------------------------------------------------------------------------- requests

// No timeouts: the kernel asks each time, so that a change of the directory is seen at once.
void reply_entry(fuse_req_t request, const File& file) {
  fuse_entry_param told = {};
  if (::fstat(file.fd.get(), &told.attr) != 0) return void(fuse_reply_err(request, errno));
  told.ino = file.inode;
  told.attr.st_blksize = store_of(request).options.blksize;
  fuse_reply_entry(request, &told);
}

void lookup(fuse_req_t request, fuse_ino_t, const char* name) {
  const auto file = store_of(request).files.find(name);
  if (!file) return void(fuse_reply_err(request, file.error().to_errno()));
  reply_entry(request, **file);
}

void getattr(fuse_req_t request, fuse_ino_t inode, fuse_file_info*) {
  const Store& store = store_of(request);
  const bool root = inode == FUSE_ROOT_ID;
  struct stat st = {};
  if (::fstat(root ? store.files.directory_fd() : store.files.at(inode).fd.get(), &st) != 0) {
    return void(fuse_reply_err(request, errno));
  }
  if (root) st.st_ino = FUSE_ROOT_ID;
  st.st_blksize = store.options.blksize;
  fuse_reply_attr(request, &st, 0);
}

void readdir(fuse_req_t request, fuse_ino_t, std::size_t size, off_t offset, fuse_file_info*) {
  struct stat directory = {};
  directory.st_mode = S_IFDIR;
  auto entries = store_of(request).files.list();
  entries.insert(entries.begin(), {{".", directory}, {"..", directory}});
  std::vector<char> reply(size);
  std::size_t used = 0;
  for (auto next = static_cast<std::size_t>(offset); next < entries.size(); ++next) {
    const auto& [name, st] = entries[next];
    const std::size_t needed = fuse_add_direntry(request, reply.data() + used, size - used,
                                                 name.c_str(), &st, static_cast<off_t>(next + 1));
    if (needed > size - used) break;
    used += needed;
  }
  fuse_reply_buf(request, reply.data(), used);
}

void open(fuse_req_t request, fuse_ino_t inode, fuse_file_info* file) {
  Store& store = store_of(request);
  store.counters.opened(store.files.at(inode));
  file->direct_io = store.options.page_cache ? 0 : 1;
  file->keep_cache = store.options.page_cache ? 1 : 0;
  fuse_reply_open(request, file);
}

void read(fuse_req_t request, fuse_ino_t inode, std::size_t size, off_t offset, fuse_file_info*) {
  Store& store = store_of(request);
  store.reads.arrived(request, store.files.at(inode), static_cast<std::uint64_t>(offset), size);
}

void release(fuse_req_t request, fuse_ino_t, fuse_file_info*) { fuse_reply_err(request, 0); }

void statfs(fuse_req_t request, fuse_ino_t) {
  struct statvfs found = {};
  if (::fstatvfs(store_of(request).files.directory_fd(), &found) != 0) {
    return void(fuse_reply_err(request, errno));
  }
  fuse_reply_statfs(request, &found);
}

// The kernel's default of 12 would let 12 stalled readaheads keep all others waiting.
void init(void*, fuse_conn_info* connection) {
  connection->max_background = 1024;
  connection->congestion_threshold = 1024;
}

const fuse_lowlevel_ops& operations() {
  static const fuse_lowlevel_ops ops = [] {
    fuse_lowlevel_ops made = {};
    made.init = init;
    made.lookup = lookup;
    made.getattr = getattr;
    made.readdir = readdir;
    made.open = open;
    made.read = read;
    made.release = release;
    made.statfs = statfs;
    return made;
  }();
  return ops;
}

// -------------------------------------------------------------------------------- the process

// Each file that was ever looked up stays open.
void allow_many_files() {
  rlimit limit = {};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

sigset_t ending_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, number);
  return set;
}

fuse_session* mount(Store& store) {
  // The kernel answers whatever would write with EROFS.
  std::string options = "ro,nosuid,nodev,default_permissions,fsname=slowstore,subtype=slowstore";
  if (store.options.allow_other) options += ",allow_other";
  char name[] = "slowstore", flag[] = "-o";
  std::array<char*, 3> arguments{name, flag, options.data()};
  fuse_args args = FUSE_ARGS_INIT(static_cast<int>(arguments.size()), arguments.data());
  fuse_session* session = fuse_session_new(&args, &operations(), sizeof(fuse_lowlevel_ops), &store);
  fuse_opt_free_args(&args);
  if (session == nullptr) return nullptr;
  return fuse_session_mount(session, store.options.mountpoint.c_str()) == 0 ? session : nullptr;
}

// A FUSE file system cannot ask for more than the kernel's default of 128 KiB itself.
void set_readahead(const Options& options) {
  struct stat st = {};
  if (::stat(options.mountpoint.c_str(), &st) != 0) return;
  std::ofstream setting(
      fmt::format("/sys/class/bdi/{}:{}/read_ahead_kb", major(st.st_dev), minor(st.st_dev)));
  if (!(setting << options.readahead_kib << std::flush)) {
    fmt::print(stderr, "slowstore: reading ahead stays at the kernel's default\n");
  }
}

/// Returns when a signal asks for the end or, if that is wanted, nobody holds the other end of
/// standard input any more.
void wait_for_end(const Options& options) {
  const sigset_t ending = ending_signals();
  const UniqueFd signals(::signalfd(-1, &ending, SFD_CLOEXEC));
  std::array<pollfd, 2> waits{pollfd{signals.get(), POLLIN, 0},
                              pollfd{options.while_stdin ? STDIN_FILENO : -1, 0, 0}};
  while (::poll(waits.data(), waits.size(), -1) <= 0) {
  }
}

Result<void> serve(Store& store) {
  const Options& options = store.options;
  const sigset_t ending = ending_signals();
  ::pthread_sigmask(SIG_BLOCK, &ending, nullptr);
  fuse_session* session = mount(store);
  if (session == nullptr) {
    return shardfs::fail(shardfs::ErrorKind::Io, options.mountpoint + ": cannot mount");
  }
  SHARDFS_TRY(const UniqueFd watched,
              shardfs::unmount_at_end(options.mountpoint, shardfs::device_at(options.mountpoint)));
  store.reads.start();
  SHARDFS_CHECK(serve_control(options.control, store.reads, store.counters));
  std::thread([session] {
    fuse_session_loop_mt(session, 1);
    ::kill(::getpid(), SIGTERM);  // somebody has unmounted it
  }).detach();
  if (options.page_cache) set_readahead(options);
  fmt::print("mounted\n");
  std::fflush(stdout);
  wait_for_end(options);
  store.reads.end();
  ::unlink(options.control.c_str());
  return shardfs::unmount(options.mountpoint, shardfs::Unmount::Lazily);
}

void declare_options(CLI::App& app, Options& options) {
  app.add_option("DIR", options.directory, "regular files and links to such")->required();
  app.add_option("MOUNTPOINT", options.mountpoint, "empty directory, absolute")->required();
  app.add_option("--control", options.control, "socket to make for commands")->required();
  app.add_option("--latency-ms", options.latency_ms, "of each read")->capture_default_str();
  app.add_option("--bandwidth", options.bandwidth, "bytes/s of all reads together; 0: no limit")
      ->capture_default_str();
  app.add_option("--blksize", options.blksize, "st_blksize, bytes")->capture_default_str();
  auto* cached =
      app.add_flag("--page-cache", options.page_cache, "let the kernel cache and read ahead");
  app.add_option("--readahead-kib", options.readahead_kib, "how far, if root mounts")
      ->needs(cached)
      ->capture_default_str();
  app.add_flag("--direct-io")
      ->description("have every read arrive here (default)")
      ->excludes(cached);
  app.add_flag("--allow-other", options.allow_other, "other users may read");
  app.add_flag("--while-stdin", options.while_stdin,
               "end when nobody holds the other end of the pipe that is standard input");
}

Result<void> run(const Options& options) {
  allow_many_files();
  SHARDFS_TRY(UniqueFd directory, Files::open_directory(options.directory));
  // Threads use it until the process is gone.
  auto* store = new Store(options, std::move(directory));
  return serve(*store);
}

}  // namespace
}  // namespace slowstore

int main(int argc, char** argv) {
  slowstore::Options options;
  CLI::App app{
      "Serves DIR read-only at MOUNTPOINT, slowly and with faults on command, until a "
      "signal ends it"};
  slowstore::declare_options(app, options);
  CLI11_PARSE(app, argc, argv);
  const auto done = slowstore::run(options);
  if (!done) fmt::print(stderr, "slowstore: {}\n", done.error().message);
  // Threads are still at work on what ordinary exit would destroy.
  ::_exit(done ? 0 : 1);
}
