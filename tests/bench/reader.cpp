// Does the timed part of a benchmark, so that the driver's interpreter is not measured.
//
//   bench_reader walk ROOT               reads all directories below ROOT
//   bench_reader stat ROOT               the same, and asks for the attributes of every entry
//   bench_reader read ROOT LIST threads N   opens, reads to the end and closes the files of LIST
//   bench_reader read ROOT LIST processes N   (paths below ROOT, one a line), in LIST's order
//
// Prints {"seconds": ..., "files": ..., "bytes": ...}. Any failure ends it with exit code 1: a
// figure of a run that did not read everything would be worth nothing.
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

using Clock = std::chrono::steady_clock;

struct Tally {
  std::atomic<std::uint64_t> next = 0;  ///< first file of the list that nobody has taken
  std::atomic<std::uint64_t> files = 0;
  std::atomic<std::uint64_t> bytes = 0;
};

[[noreturn]] void die(std::string_view what, const std::string& path) {
  fmt::print(stderr, "bench_reader: {}: {}: {}\n", path, what, std::strerror(errno));
  std::_Exit(1);
}

void walk(int parent, const std::string& name, bool with_stat, Tally& tally) {
  const int fd = openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* directory = fd < 0 ? nullptr : fdopendir(fd);
  if (directory == nullptr) die("open directory", name);
  std::vector<std::string> below;
  while (const dirent* entry = readdir(directory)) {
    const std::string_view child = entry->d_name;
    if (child == "." || child == "..") continue;
    struct stat attributes = {};
    if (with_stat && fstatat(fd, entry->d_name, &attributes, AT_SYMLINK_NOFOLLOW) != 0)
      die("stat", entry->d_name);
    if (entry->d_type == DT_DIR) {
      below.emplace_back(child);
    } else {
      ++tally.files;
      tally.bytes += static_cast<std::uint64_t>(attributes.st_size);
    }
  }
  for (const auto& child : below) walk(fd, child, with_stat, tally);
  closedir(directory);
}

std::uint64_t read_file(const std::string& path, std::vector<char>& buffer) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) die("open", path);
  std::uint64_t bytes = 0;
  while (const ssize_t n = read(fd, buffer.data(), buffer.size())) {
    if (n < 0) die("read", path);
    bytes += static_cast<std::uint64_t>(n);
  }
  close(fd);
  return bytes;
}

/// Takes files from the list until none is left. The next one is shared by all workers, as by the
/// workers of a data loader.
void read_files(const std::vector<std::string>& paths, Tally& tally) {
  std::vector<char> buffer(256 * 1024);
  std::uint64_t files = 0, bytes = 0;
  for (std::uint64_t i; (i = tally.next++) < paths.size(); ++files)
    bytes += read_file(paths[i], buffer);
  tally.files += files;
  tally.bytes += bytes;
}

double in_threads(unsigned count, const std::function<void()>& work) {
  std::barrier start(count + 1);
  std::vector<std::jthread> threads;
  for (unsigned i = 0; i < count; ++i)
    threads.emplace_back([&] {
      start.arrive_and_wait();
      work();
    });
  const auto begun = Clock::now();  // before the barrier: none can have begun, and none is missed
  start.arrive_and_wait();
  threads.clear();
  return std::chrono::duration<double>(Clock::now() - begun).count();
}

/// What a forked worker does: says that it is there, waits for the gate to be closed, works.
[[noreturn]] void be_worker(int there, int gate, const std::function<void()>& work) {
  char byte = 0;
  if (write(there, &byte, 1) != 1 || read(gate, &byte, 1) != 0) std::_Exit(1);
  work();
  std::_Exit(0);
}

double in_processes(unsigned count, const std::function<void()>& work) {
  int there[2], gate[2];
  if (pipe(there) != 0 || pipe(gate) != 0) die("pipe", "");
  for (unsigned i = 0; i < count; ++i) {
    const pid_t pid = fork();
    if (pid < 0) die("fork", "");
    if (pid > 0) continue;
    close(gate[1]);
    be_worker(there[1], gate[0], work);
  }
  char byte;
  for (unsigned i = 0; i < count; ++i)
    if (read(there[0], &byte, 1) != 1) die("wait for worker", "");
  const auto begun = Clock::now();
  close(gate[1]);
  for (unsigned i = 0; i < count; ++i) {
    int status = 0;
    if (wait(&status) < 0 || status != 0) std::_Exit(1);
  }
  return std::chrono::duration<double>(Clock::now() - begun).count();
}

std::vector<std::string> read_list(const std::string& name) {
  std::ifstream file(name);
  std::vector<std::string> paths;
  for (std::string line; std::getline(file, line);) paths.push_back(line);
  return paths;
}

/// A tally that forked workers share.
Tally& shared_tally() {
  void* memory =
      mmap(nullptr, sizeof(Tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) die("mmap", "");
  return *new (memory) Tally;
}

int usage() {
  fmt::print(stderr,
             "usage: bench_reader walk|stat ROOT\n"
             "       bench_reader read ROOT LIST threads|processes N\n");
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> args(argv + 1, argv + argc);
  if (args.size() < 2) return usage();
  Tally& tally = shared_tally();
  double seconds = 0;
  if (args.size() == 2 && (args[0] == "walk" || args[0] == "stat")) {
    const auto begun = Clock::now();
    walk(AT_FDCWD, args[1], args[0] == "stat", tally);
    seconds = std::chrono::duration<double>(Clock::now() - begun).count();
  } else if (args.size() == 5 && args[0] == "read") {
    const auto paths = read_list(args[2]);
    const auto count = static_cast<unsigned>(std::stoul(args[4]));
    if (chdir(args[1].c_str()) != 0) die("chdir", args[1]);
    const auto work = [&] { read_files(paths, tally); };
    seconds = args[3] == "threads" ? in_threads(count, work) : in_processes(count, work);
  } else {
    return usage();
  }
  fmt::print("{{\"seconds\": {:.6f}, \"files\": {}, \"bytes\": {}}}\n", seconds, tally.files.load(),
             tally.bytes.load());
}
