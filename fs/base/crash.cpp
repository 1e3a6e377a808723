#include "fs/base/crash.h"

#include <atomic>
#include <csignal>

#include <unistd.h>

namespace shardfs {
namespace {

constexpr unsigned kMostSeconds = 2;

void (*the_last_act)() = nullptr;

void end_by_alarm() {
  sigset_t alarm;
  sigemptyset(&alarm);
  sigaddset(&alarm, SIGALRM);
  std::signal(SIGALRM, SIG_DFL);
  ::pthread_sigmask(SIG_UNBLOCK, &alarm, nullptr);
  ::alarm(kMostSeconds);
}

void crashed(int number) {
  static std::atomic_flag entered = ATOMIC_FLAG_INIT;
  while (entered.test_and_set()) ::pause();  // Other threads that fail too, and what fails in here.
  end_by_alarm();
  the_last_act();
  std::signal(number, SIG_DFL);
  ::raise(number);
}

}  // namespace

void on_crash(void (*last_act)()) {
  the_last_act = last_act;
  struct sigaction action = {};
  action.sa_handler = crashed;
  action.sa_flags = SA_NODEFER;
  for (const int number : {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE})
    ::sigaction(number, &action, nullptr);
}

}  // namespace shardfs
