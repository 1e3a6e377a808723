#include "tools/common/interrupt.h"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>
#include <tuple>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

namespace shardfs {
namespace {

// Slurm sends the last three where it is asked to.
constexpr std::array kSignals{SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGALRM, SIGXCPU, SIGUSR1, SIGUSR2};

std::atomic<int> first_signal{0};
std::array<int, 2> wake_pipe{-1, -1};

void remember(int number) {
  const int saved = errno;
  int none = 0;
  first_signal.compare_exchange_strong(none, number);
  // The pipe stays readable for good: everybody who waits is woken.
  [[maybe_unused]] const auto written = ::write(wake_pipe[1], "", 1);
  errno = saved;
}

}  // namespace

Interrupt::Interrupt() : before_() {
  static_assert(std::tuple_size_v<decltype(before_)> == kSignals.size());
  first_signal = 0;
  if (::pipe2(wake_pipe.data(), O_CLOEXEC | O_NONBLOCK) != 0) wake_pipe = {-1, -1};
  struct sigaction action = {};
  action.sa_handler = remember;  // Without SA_RESTART: blocking calls return EINTR.
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    ::sigaction(kSignals[i], nullptr, &before_[i]);
    if (before_[i].sa_handler != SIG_IGN) ::sigaction(kSignals[i], &action, nullptr);
  }
}

Interrupt::~Interrupt() {
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    ::sigaction(kSignals[i], &before_[i], nullptr);
  }
  for (int& fd : wake_pipe) {
    if (fd >= 0) ::close(fd);
    fd = -1;
  }
}

int Interrupt::signal() { return first_signal; }

Result<void> Interrupt::check() {
  const int number = first_signal;
  if (number == 0) return {};
  return fail(ErrorKind::Interrupted, std::string("stopped by signal SIG") + sigabbrev_np(number));
}

Result<void> Interrupt::wait_readable(int fd, int cancel_fd) {
  std::array<pollfd, 3> waits{pollfd{fd, POLLIN, 0}, pollfd{wake_pipe[0], POLLIN, 0},
                              pollfd{cancel_fd, POLLIN, 0}};
  while (true) {
    SHARDFS_CHECK(check());
    const int ready = ::poll(waits.data(), waits.size(), -1);
    if (ready < 0 && errno != EINTR) return fail_errno(errno, "poll", "cannot wait for input");
    if (ready <= 0) continue;
    if (waits[2].revents != 0) return fail(ErrorKind::Interrupted, "reading was cancelled");
    if (waits[0].revents != 0) return check();
  }
}

}  // namespace shardfs
