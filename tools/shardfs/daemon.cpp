#include "tools/shardfs/daemon.h"

#include <array>
#include <cerrno>
#include <ostream>
#include <utility>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/base/unique_fd.h"

namespace shardfs {
namespace {

// Nothing of the caller's is held: no terminal, no directory, no pipe that somebody reads to its
// end.
void leave_caller(KeepStderr keep_stderr) {
  ::setsid();
  [[maybe_unused]] const int ignored = ::chdir("/");
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null) return;
  ::dup2(null.get(), STDIN_FILENO);
  ::dup2(null.get(), STDOUT_FILENO);
  if (keep_stderr == KeepStderr::No) ::dup2(null.get(), STDERR_FILENO);
}

Result<void> wait_until_ready(pid_t child, const UniqueFd& reader) {
  char ready = 0;
  ssize_t got;
  do {
    got = ::read(reader.get(), &ready, 1);
  } while (got < 0 && errno == EINTR);
  if (got == 1) return {};
  ::waitpid(child, nullptr, 0);
  return fail_errno(ECHILD, "daemon", "ended before the mount was ready");
}

}  // namespace

void close_inherited() { ::closefrom(STDERR_FILENO + 1); }

Result<void> serve_in_background(Session& session, KeepStderr keep_stderr,
                                 const std::function<void()>& at_end, Io& io) {
  std::array<int, 2> ends;
  if (::pipe2(ends.data(), O_CLOEXEC) != 0)
    return fail_errno(errno, "daemon", "cannot make a pipe");
  UniqueFd reader(ends[0]), writer(ends[1]);
  io.out.flush();
  io.err.flush();
  const pid_t child = ::fork();
  if (child < 0) return fail_errno(errno, "daemon", "cannot fork");
  if (child > 0) {
    writer.reset();
    session.hand_over();
    return wait_until_ready(child, reader);
  }
  reader.reset();
  leave_caller(keep_stderr);
  auto done = session.serve([&] {
    [[maybe_unused]] const ssize_t written = ::write(writer.get(), "r", 1);
    writer.reset();
  });
  at_end();
  return done;
}

}  // namespace shardfs
