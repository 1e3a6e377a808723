#include "fs/base/own_descriptors.h"

#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include <fmt/format.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#ifdef __has_feature  // clang's way to say so
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif

namespace shardfs {

Result<void> own_descriptors(std::optional<int> keep) {
  const auto refused = [](int number) {
    return fail(ErrorKind::Unsupported,
                fmt::format("no descriptors of its own for a thread: {}", std::strerror(number)));
  };
#ifdef __SANITIZE_THREAD__
  // ThreadSanitizer follows descriptors by their numbers, as if a process had one table.
  return keep ? refused(ENOSYS) : Result<void>();
#endif
  if (::unshare(CLONE_FILES) != 0) return refused(errno);
  std::vector<int> numbers;
  std::error_code failed;
  for (auto at = std::filesystem::directory_iterator("/proc/thread-self/fd", failed);
       !failed && at != std::filesystem::directory_iterator(); at.increment(failed)) {
    const std::string name = at->path().filename();
    int number = 0;
    std::from_chars(name.data(), name.data() + name.size(), number);
    numbers.push_back(number);
  }
  for (const int number : numbers)
    if (number > STDERR_FILENO && number != keep) ::close(number);
  return failed ? refused(failed.value()) : Result<void>();
}

void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace shardfs
