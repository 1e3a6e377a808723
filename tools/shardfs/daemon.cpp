#include "tools/shardfs/daemon.h"

#include <array>
#include <cerrno>
#include <ostream>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/mount/session.h"

namespace shardfs {
namespace {

void die_of(int number) {
  ::signal(number, SIG_DFL);
  const sigset_t ending = ending_signals();
  ::pthread_sigmask(SIG_UNBLOCK, &ending, nullptr);
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
  const sigset_t ending = ending_signals();
  ::pthread_sigmask(SIG_BLOCK, &ending, nullptr);
  const UniqueFd signals(::signalfd(-1, &ending, SFD_CLOEXEC));
  std::array<pollfd, 2> waits{pollfd{pipe_.get(), POLLIN, 0}, pollfd{signals.get(), POLLIN, 0}};
  while (waits[0].revents == 0) {
    if (::poll(waits.data(), waits.size(), -1) <= 0) continue;
    signalfd_siginfo info = {};
    if (waits[1].revents != 0 && ::read(signals.get(), &info, sizeof info) == sizeof info)
      ::kill(child_, static_cast<int>(info.ssi_signo));
  }
  char ready = 0;
  if (::read(pipe_.get(), &ready, 1) == 1) return 0;
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
