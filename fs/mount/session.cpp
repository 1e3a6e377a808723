#include "fs/mount/session.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <fuse_lowlevel.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/base/unique_fd.h"
#include "fs/mount/operations.h"
#include "fs/mount/report.h"
#include "fs/mount/unmount.h"

#if !defined(__SANITIZE_ADDRESS__) && defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
// libfuse frees its copy of the directory's name in fuse_session_unmount() only, which is not
// called here: it would unmount whatever is there by then.
extern "C" const char* __lsan_default_suppressions() { return "leak:fuse_session_mount\n"; }
extern "C" const char* __lsan_default_options() { return "print_suppressions=0"; }
#endif

namespace shardfs {
namespace {

// Enough to keep a fast store busy while some threads wait for it; they start as requests come.
unsigned thread_limit() { return std::clamp(2 * std::thread::hardware_concurrency(), 16U, 64U); }

std::string
    last_libfuse_message;  ///< written before threads start, for the error of a failed mount

void log_libfuse(fuse_log_level level, const char* format, va_list arguments) {
  char line[512];
  std::vsnprintf(line, sizeof line, format, arguments);
  std::string_view text = line;
  while (text.ends_with('\n')) text.remove_suffix(1);
  if (level <= FUSE_LOG_ERR) last_libfuse_message = text;
  spdlog::debug("{}", text);
}

// SIGUSR1 wakes the thread that waits in libfuse's loop; a process that ignores SIGPIPE survives a
// closed stderr.
void prepare_signals() {
  const sigset_t ending = ending_signals();
  ::pthread_sigmask(SIG_BLOCK, &ending, nullptr);
  struct sigaction wake = {};
  wake.sa_handler = [](int) {};
  ::sigaction(SIGUSR1, &wake, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
}

std::string escaped(std::string_view value) {
  std::string text;
  for (const char c : value) {
    if (c == ',' || c == '\\') text.push_back('\\');
    text.push_back(c);
  }
  return text;
}

// default_permissions: the kernel checks permissions, by the modes and owners shown.
std::string libfuse_options(const Dataset& dataset, const MountOptions& options) {
  std::string text = "ro,nosuid,nodev,noatime,default_permissions,subtype=shardfs,fsname=";
  text += escaped(dataset.path());
  if (options.allow_other) text += ",allow_other";
  if (options.noexec) text += ",noexec";
  return text;
}

struct LoopConfig {
  LoopConfig();
  ~LoopConfig();
  LoopConfig(const LoopConfig&) = delete;
  LoopConfig& operator=(const LoopConfig&) = delete;
#if FUSE_USE_VERSION >= 312
  fuse_loop_config* get() { return config; }
  fuse_loop_config* config;
#else
  fuse_loop_config* get() { return &config; }
  fuse_loop_config config = {};
#endif
};

// A device descriptor for each thread (clone_fd), and threads that stay once they have started.
#if FUSE_USE_VERSION >= 312
LoopConfig::LoopConfig() : config(fuse_loop_cfg_create()) {
  fuse_loop_cfg_set_clone_fd(config, 1);
  fuse_loop_cfg_set_max_threads(config, thread_limit());
}
LoopConfig::~LoopConfig() { fuse_loop_cfg_destroy(config); }
#else
LoopConfig::LoopConfig() {
  config.clone_fd = 1;
  config.max_idle_threads = thread_limit();
}
LoopConfig::~LoopConfig() = default;
#endif

// Ends the process if its orderly end takes too long, and its mount with it; if that end comes
// first, this thread ends with it.
void limit_shutdown(const std::string& directory, std::uint64_t device) {
  try {
    std::thread([directory, device] {
      std::this_thread::sleep_for(std::chrono::seconds(Session::kGraceSeconds));
      spdlog::error("still busy {} s after the request to end; leaving", Session::kGraceSeconds);
      ::alarm(1);  // if the kernel, or fusermount3, does not let go of it
      unmount_if_there(directory, device);
      ::_exit(2);
    }).detach();
  } catch (const std::system_error&) {
    ::alarm(Session::kGraceSeconds);  // A limit of threads: then without a word.
  }
}

}  // namespace

sigset_t ending_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, number);
  return set;
}

Session::Session(const Dataset& dataset, Scenes& scenes, const MountOptions& options)
    : auto_unmount_(options.auto_unmount),
      push_(options.push),
      served_{.dataset = dataset,
              .scenes = scenes,
              .directory = options.directory,
              .subdir = options.subdir,
              .gpu = options.gpu,
              .masked_capabilities = options.masked_capabilities} {}

Result<std::unique_ptr<Session>> Session::mount(const Dataset& dataset, Scenes& scenes,
                                                const MountOptions& options) {
  std::unique_ptr<Session> session(new Session(dataset, scenes, options));
  SHARDFS_CHECK(session->attach(options));
  SHARDFS_CHECK(session->handshake());
  return session;
}

Session::~Session() {
  if (mounted_) {
    if (const auto done = detach(); !done) spdlog::error("{}", done.error().message);
  }
  if (list_ahead_) list_ahead_->stop();
  if (pusher_) pusher_->stop();
  if (session_ != nullptr) fuse_session_destroy(session_);
}

Result<void> Session::attach(const MountOptions& options) {
  prepare_signals();
  fuse_set_log_func(log_libfuse);
  std::string text = libfuse_options(served_.dataset, options);
  char name[] = "shardfs", flag[] = "-o";
  std::array<char*, 3> arguments{name, flag, text.data()};
  fuse_args args = FUSE_ARGS_INIT(static_cast<int>(arguments.size()), arguments.data());
  session_ = fuse_session_new(&args, &operations(), sizeof(fuse_lowlevel_ops), &served_);
  fuse_opt_free_args(&args);
  if (session_ == nullptr || fuse_session_mount(session_, options.directory.c_str()) != 0) {
    const bool no_device = ::access("/dev/fuse", R_OK | W_OK) != 0;
    return fail(
        ErrorKind::Unsupported,
        fmt::format("{}: cannot mount: {}{}", options.directory,
                    last_libfuse_message.empty() ? "see the message above" : last_libfuse_message,
                    no_device ? "; try: asking the node's administrator for a /dev/fuse that users "
                                "may open (mode 0666)"
                              : ""));
  }
  mounted_ = true;
  device_ = device_at(options.directory);
  unmount_if_crashing(options.directory, device_);
  served_.slow = &slow_;
  served_.reports = &reports_;
  return {};
}

Result<void> Session::show_whole() {
  return served_.scenes.show_whole(served_.dataset.archive(), [this](const Scene& scene) {
    pusher_ = std::make_unique<Pusher>(session_, *scene.archive, served_.dataset.fits_in_memory(),
                                       scene.view, served_.counters);
    list_ahead_ =
        std::make_unique<ListAhead>(session_, scene.tree(), scene.view, served_.directory, device_);
    served_.pusher = pusher_.get();
    served_.list_ahead = list_ahead_.get();
    if (serving_) begin_to_push();
  });
}

void Session::begin_to_push() {
  if (!push_) return;
  pusher_->start();
  if (served_.dataset.fits_in_memory()) list_ahead_->start();
}

// The kernel's first request is INIT, and it sends no other before the answer. Answering here means
// that a failure is still the caller's to report.
Result<void> Session::handshake() {
  fuse_buf request = {};
  int got;
  do {
    got = fuse_session_receive_buf(session_, &request);
  } while (got == -EINTR);
  if (got > 0) fuse_session_process_buf(session_, &request);
  std::free(request.mem);
  if (got <= 0 || fuse_session_exited(session_) != 0) {
    return fail(ErrorKind::Io, fmt::format("{}: the kernel and libfuse do not agree: {}",
                                           served_.directory, last_libfuse_message));
  }
  return {};
}

Result<void> Session::detach() {
  mounted_ = false;
  // Somebody else has unmounted it, and perhaps mounted another in its place.
  if (device_at(served_.directory) != device_) return {};
  if (unmount(served_.directory, Unmount::IfUnused)) return {};
  return unmount(served_.directory, Unmount::Lazily);
}

// The signal that came, or 0 if the loop ended by itself.
int Session::wait_for_end(int loop_ended, int opening, const std::function<void()>& opened) const {
  const sigset_t ending = ending_signals();
  const UniqueFd signals(::signalfd(-1, &ending, SFD_CLOEXEC));
  std::array<pollfd, 3> waits{pollfd{signals.get(), POLLIN, 0}, pollfd{loop_ended, POLLIN, 0},
                              pollfd{opening, POLLIN, 0}};
  while (waits[0].revents == 0 && waits[1].revents == 0) {
    if (::poll(waits.data(), waits.size(), -1) <= 0) continue;
    if (waits[2].revents == 0) continue;
    waits[2] = {-1, 0, 0};
    opened();
  }
  signalfd_siginfo info = {};
  if (waits[1].revents != 0 || ::read(signals.get(), &info, sizeof info) != sizeof info) return 0;
  return static_cast<int>(info.ssi_signo);
}

Result<void> Session::serve(const std::function<void()>& ready, int opening,
                            const std::function<void()>& opened) {
  const UniqueFd loop_ended(::eventfd(0, EFD_CLOEXEC));
  if (!loop_ended) return fail_errno(errno, served_.directory, "cannot make an eventfd");
  UniqueFd watched;
  if (auto_unmount_) {
    SHARDFS_TRY(watched, unmount_at_end(served_.directory, device_));
  }
  int failed = 0;
  serving_ = true;
  if (pusher_) begin_to_push();
  std::thread loop([&] {
    LoopConfig config;
    failed = fuse_session_loop_mt(session_, config.get());
    ::eventfd_write(loop_ended.get(), 1);
  });
  ready();
  const int number = wait_for_end(loop_ended.get(), opening, opened);
  limit_shutdown(served_.directory, device_);
  if (list_ahead_) list_ahead_->stop();
  if (number != 0)
    spdlog::info("{}: unmounting on SIG{}", served_.directory, ::sigabbrev_np(number));
  // Or nobody serves it any more, for want of memory or threads.
  if (number != 0 || failed != 0) {
    if (const auto done = detach(); !done) spdlog::error("{}", done.error().message);
  }
  final_stats_ = stats_json(served_);
  // Readers that wait for shared storage get an error now.
  served_.dataset.cancel();
  served_.scenes.stop();
  // As long as requests are answered: a store waits for a page that a READ holds.
  if (pusher_) pusher_->stop();
  // The loop sleeps until told, even when the session is over.
  fuse_session_exit(session_);
  pollfd ended{loop_ended.get(), POLLIN, 0};
  do {
    ::pthread_kill(loop.native_handle(), SIGUSR1);
  } while (::poll(&ended, 1, 10) <= 0);
  loop.join();
  mounted_ = false;
  served_.scenes.stop();
  slow_.stop();
  reports_.stop();
  if (number == 0 && failed != 0) {
    return fail_errno(std::abs(failed), served_.directory, "cannot go on serving");
  }
  return {};
}

}  // namespace shardfs
