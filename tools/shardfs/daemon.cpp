#include "tools/shardfs/daemon.h"

#include <array>
#include <cerrno>
#include <ostream>
#include <utility>

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace shardfs {
namespace {

constexpr std::array kEndingSignals = {SIGINT, SIGTERM, SIGHUP};

/// For the handler of signals, which has no other way to know it.
volatile pid_t waited_for = 0;

void forward_signals(pid_t child) {
  waited_for = child;
  struct sigaction forward = {};
  forward.sa_handler = [](int number) { ::kill(waited_for, number); };
  forward.sa_flags = SA_RESTART;
  for (const int number : kEndingSignals) ::sigaction(number, &forward, nullptr);
}

void die_of(int number) {
  ::signal(number, SIG_DFL);
  ::raise(number);
}

}  // namespace

void close_inherited() { ::closefrom(STDERR_FILENO + 1); }

Result<Daemon> Daemon::fork(Io& io) {
  std::array<int, 2> ends;
  if (::pipe2(ends.data(), O_CLOEXEC) != 0)
    return fail_errno(errno, "daemon", "cannot make a pipe");
  UniqueFd reader(ends[0]), writer(ends[1]);
  io.out.flush();
  io.err.flush();
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) return fail_errno(errno, "daemon", "cannot fork");
  if (child > 0) return Daemon(child, std::move(reader));
  // A command that is killed leaves no mount behind that nobody knows of.
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::raise(SIGTERM);
  return Daemon(0, std::move(writer));
}

int Daemon::wait() {
  forward_signals(child_);
  char ready = 0;
  ssize_t got;
  do {
    got = ::read(pipe_.get(), &ready, 1);
  } while (got < 0 && errno == EINTR);
  if (got == 1) return 0;
  int status = 0;
  while (::waitpid(child_, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status)) die_of(WTERMSIG(status));
  return WEXITSTATUS(status);
}

void Daemon::leave_caller(KeepStderr keep_stderr) {
  ::setsid();
  [[maybe_unused]] const int ignored = ::chdir("/");
  if (const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC)); null) {
    ::dup2(null.get(), STDIN_FILENO);
    ::dup2(null.get(), STDOUT_FILENO);
    if (keep_stderr == KeepStderr::No) ::dup2(null.get(), STDERR_FILENO);
  }
}

void Daemon::ready() {
  ::prctl(PR_SET_PDEATHSIG, 0);
  [[maybe_unused]] const ssize_t written = ::write(pipe_.get(), "r", 1);
  pipe_.reset();
}

}  // namespace shardfs
