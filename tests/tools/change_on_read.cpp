// Loaded into mkshard by LD_PRELOAD: does to a file what another process would do, at the moment
// that hurts. Which file, what and how often is in the environment, so that a test needs no luck
// with timing.
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

std::string path_of(int fd) {
  std::array<char, 4096> text{};
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t size = ::readlink(link.c_str(), text.data(), text.size());
  return {text.data(), size > 0 ? static_cast<std::size_t>(size) : 0};
}

std::string setting(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

/// Whether it is time to act on the file `fd`: it is the one named, and fewer than CHANGE_TIMES
/// acts were done.
bool is_due(int fd) {
  static std::atomic<int> done = 0;
  const std::string wanted = setting("CHANGE_NAME");
  if (wanted.empty() || path_of(fd).find(wanted) == std::string::npos) return false;
  return done++ < std::atoi(setting("CHANGE_TIMES").c_str());
}

void change(int fd) {
  static std::atomic<long> moment = 1'000'000;
  const std::string path = path_of(fd), how = setting("CHANGE_HOW");
  struct stat status = {};
  ::fstat(fd, &status);
  if (how == "truncate") (void)!::truncate(path.c_str(), status.st_size / 2);
  if (how == "grow") (void)!::truncate(path.c_str(), status.st_size + 1);
  const timespec when{moment++, 1};
  const std::array<timespec, 2> times{when, when};
  if (how == "touch") ::utimensat(AT_FDCWD, path.c_str(), times.data(), 0);
}

}  // namespace

extern "C" ssize_t pread64(int fd, void* to, size_t size, off64_t offset) {
  using Call = ssize_t (*)(int, void*, size_t, off64_t);
  static const auto real = reinterpret_cast<Call>(::dlsym(RTLD_NEXT, "pread64"));
  if (setting("CHANGE_HOW") != "flip" && is_due(fd)) change(fd);
  return real(fd, to, size, offset);
}

extern "C" ssize_t pread(int fd, void* to, size_t size, off_t offset) {
  return pread64(fd, to, size, offset);
}

extern "C" ssize_t write(int fd, const void* from, size_t size) {
  using Call = ssize_t (*)(int, const void*, size_t);
  static const auto real = reinterpret_cast<Call>(::dlsym(RTLD_NEXT, "write"));
  if (size < 4096 || setting("CHANGE_HOW") != "flip" || !is_due(fd)) return real(fd, from, size);
  std::vector<char> copy(size);
  std::memcpy(copy.data(), from, size);
  copy[size / 2] ^= 1;
  return real(fd, copy.data(), size);
}

extern "C" ssize_t fgetxattr(int fd, const char* name, void* to, size_t size) {
  using Call = ssize_t (*)(int, const char*, void*, size_t);
  static const auto real = reinterpret_cast<Call>(::dlsym(RTLD_NEXT, "fgetxattr"));
  if (setting("CHANGE_HOW") != "lose" || !is_due(fd)) return real(fd, name, to, size);
  errno = EIO;
  return -1;
}
