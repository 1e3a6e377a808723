#include "cache/server/server_main.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cache/server/server.h"
#include "cache/server/steps.h"
#include "fs/base/crash.h"
#include "fs/base/own_descriptors.h"

namespace shardfs {

namespace {

namespace files = std::filesystem;

/// Of the directory's layout: another one is emptied.
constexpr int kLayout = 1;
constexpr std::size_t kLogsKept = 8;

bool is_at(const struct stat& file, const std::string& path) {
  struct stat there {};
  return ::lstat(path.c_str(), &there) == 0 && file.st_ino == there.st_ino &&
         file.st_dev == there.st_dev;
}

/// The lock of a directory: whoever holds it, on the file that the path names, is its server.
class DirectoryLock {
 public:
  /// Nothing where another process holds it. With ENOENT: the directory is not where it was.
  static Result<std::optional<DirectoryLock>> take(const CacheDirectory& directory) {
    constexpr int kTries = 100;
    for (int i = 0; i < kTries; ++i) {
      DirectoryLock lock(directory);
      lock.fd_.reset(
          ::openat(directory.fd(), "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
      if (!lock.fd_) return fail_errno(errno, directory.path() + "/lock", "cannot open");
      if (::flock(lock.fd_.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) return std::nullopt;
        return fail_errno(errno, directory.path() + "/lock", "cannot lock");
      }
      // The one before may have removed it between opening and locking.
      if (lock.is_in_place()) return lock;
    }
    return fail_errno(ENOENT, directory.path(), "was moved or removed");
  }

  [[nodiscard]] bool is_in_place() const {
    struct stat held {};
    return ::fstat(fd_.get(), &held) == 0 && is_at(held, directory_->path() + "/lock");
  }

  void remove() const { ::unlinkat(directory_->fd(), "lock", 0); }

 private:
  explicit DirectoryLock(const CacheDirectory& directory) : directory_(&directory) {}
  const CacheDirectory* directory_;
  UniqueFd fd_;
};

int crash_directory = -1;

// LMDB ends a process that reads a damaged database in a quarter of all cases; the next server must
// not read the same one again.
void note_crash() {
  const int fd = ::openat(crash_directory, "crashed", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (fd >= 0) ::close(fd);
}

void watch_crashes(const CacheDirectory& directory) {
  crash_directory = directory.fd();
  on_crash(note_crash);
}

std::string boot_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  file >> id;
  return id;
}

std::string current_version() { return fmt::format("{} {}", kLayout, boot_id()); }

std::string found_version(const CacheDirectory& directory) {
  std::string found;
  if (std::ifstream file(directory.path() + "/version"); file) std::getline(file, found);
  return found;
}

/// Says for later servers what lies here; whole or not at all. False where a full disk has no room
/// for it.
bool write_version(const CacheDirectory& directory) {
  const files::path root = directory.path();
  std::error_code failed;
  {
    std::ofstream file(root / "version.new");
    file << current_version() << '\n';
    if (!file.flush()) failed = std::make_error_code(std::errc::no_space_on_device);
  }
  if (!failed) files::rename(root / "version.new", root / "version", failed);
  std::error_code ignored;
  if (failed) files::remove(root / "version.new", ignored);
  return !failed;
}

/// Databases are begun anew after a crash; everything is after a boot, because nothing is flushed
/// to the disk, and in another layout.
void prepare(const CacheDirectory& directory) {
  const files::path root = directory.path();
  std::error_code ignored;
  const std::string version = current_version(), found = found_version(directory);
  if (files::exists(root / "crashed", ignored) || found != version) {
    if (!found.empty()) spdlog::info("{}: the ledger is begun anew", directory.path());
    files::remove_all(root / "ledger", ignored);
    files::remove(root / "crashed", ignored);
  }
  if (found != version) {
    files::remove_all(root / "mirror", ignored);
    files::remove_all(root / "index", ignored);
    // https://bford.info/cachedir/: backups leave it out.
    std::ofstream(root / "CACHEDIR.TAG")
        << "Signature: 8a477f597d28d172789f06886806bc55\n# A cache of shardfs.\n";
  }
}

/// What is of no use to a later server goes; where there is no mirror, everything.
void tidy(const CacheDirectory& directory) {
  const files::path root = directory.path();
  std::error_code ignored;
  files::remove_all(root / "blocks", ignored);
  if (!files::is_empty(root / "mirror", ignored) && !ignored) return;
  for (const char* name : {"mirror", "index", "ledger", "log", "version", "CACHEDIR.TAG"})
    files::remove_all(root / name, ignored);
}

void remove_old_logs(const files::path& logs) {
  std::vector<std::pair<files::file_time_type, files::path>> found;
  std::error_code ignored;
  for (const auto& entry : files::directory_iterator(logs, ignored))
    found.emplace_back(entry.last_write_time(ignored), entry.path());
  std::ranges::sort(found);
  for (std::size_t i = 0; i + kLogsKept < found.size(); ++i)
    files::remove(found[i].second, ignored);
}

Result<UniqueFd> bind_socket(const CacheDirectory& directory) {
  const std::string path = directory.short_path("socket");
  const auto failed = [&](const char* what) {
    return fail_errno(errno, directory.path() + "/socket", what);
  };
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return failed("cannot be made");
  ::unlinkat(directory.fd(), "socket", 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return failed("cannot be bound");
  // No more than this many descriptors are on their way to a server that does not take them: the
  // kernel bounds them for all of a user's processes together.
  constexpr int kWaiting = 512;
  if (::listen(socket.get(), kWaiting) != 0) return failed("cannot be listened to");
  return socket;
}

/// Nothing of the caller's is held: no terminal, no directory, no pipe that somebody reads.
void leave_caller() {
  ::setsid();
  [[maybe_unused]] const int ignored = ::chdir("/");
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null.get(), fd);
}

/// A store that hangs holds up threads for as long as it likes; the process does not wait for it.
/// The lock is free only when it has ended, so its file stays.
void limit_end() {
  static constexpr std::chrono::seconds kGrace{5};
  try {
    std::thread([] {
      std::this_thread::sleep_for(kGrace);
      ::_exit(0);
    }).detach();
  } catch (const std::system_error&) {
    ::alarm(kGrace.count());  // A limit of threads.
  }
}

UniqueFd block_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, number);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  return UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC));
}

/// Serves, unless another process does already. `ready` is told in either case.
Result<void> serve(const CacheDirectory& directory,
                   const std::function<void(const std::string&)>& start_log,
                   const std::function<void()>& ready) {
  SHARDFS_TRY(const auto lock, DirectoryLock::take(directory));
  if (!lock) {
    ready();
    return {};
  }
  raise_descriptor_limit();
  const files::path logs = files::path(directory.path()) / "log";
  std::error_code ignored;
  files::create_directory(logs, ignored);
  remove_old_logs(logs);
  start_log((logs / fmt::format("{}.log", ::getpid())).string());
  reached(Step::Locked);
  watch_crashes(directory);
  prepare(directory);
  const UniqueFd ending = block_signals();
  SHARDFS_TRY(auto socket, bind_socket(directory));
  reached(Step::Bound);
  {
    // Without its socket it could keep others from serving, and would serve nobody new itself.
    const std::string path = directory.path() + "/socket";
    struct stat bound {};
    if (::lstat(path.c_str(), &bound) != 0) return fail_errno(errno, path, "cannot stat");
    bool has_version = found_version(directory) == current_version() || write_version(directory);
    Server server(directory, std::move(socket), [&] {
      if (!has_version) has_version = write_version(directory);
      return lock->is_in_place() && is_at(bound, path);
    });
    ready();
    server.run(ending.get());
    if (lock->is_in_place()) ::unlinkat(directory.fd(), "socket", 0);
    limit_end();
    server.stop();
    if (lock->is_in_place()) {
      tidy(directory);
      lock->remove();
    }
    ::rmdir(directory.path().c_str());  // If nothing is in it.
    ::_exit(0);  // Before the thread that limits the end could find anything gone.
  }
  return {};
}

}  // namespace

Result<void> run_cache_server(const std::string& parent,
                              const std::function<void(const std::string&)>& start_log) {
  constexpr int kTries = 5;
  SHARDFS_TRY(const auto directory, CacheDirectory::open(parent));
  const std::string absolute_parent = files::path(directory.path()).parent_path();
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno(errno, "cache", "cannot make a pipe");
  UniqueFd reader(ends[0]), writer(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return fail_errno(errno, "cache", "cannot fork");
  if (child > 0) {
    writer.reset();
    std::array<char, 512> text{};
    ssize_t got;
    do {
      got = ::read(reader.get(), text.data(), text.size());
    } while (got < 0 && errno == EINTR);
    if (got == 1) return {};
    if (got > 1)
      return fail(ErrorKind::Io, std::string(text.data(), static_cast<std::size_t>(got)));
    return fail(ErrorKind::Interrupted, "cache: the server ended before it was ready");
  }
  reader.reset();
  leave_caller();
  std::signal(SIGPIPE, SIG_IGN);  // Whoever waits for that may have been killed.
  const auto tell = [&](std::string_view what) {
    if (writer) [[maybe_unused]]
      const ssize_t told = ::write(writer.get(), what.data(), what.size());
    writer.reset();
  };
  const auto serve_in = [&](const CacheDirectory& at) {
    return serve(at, start_log, [&] { tell("r"); });
  };
  auto done = serve_in(directory);
  // The server before may have removed the directory, which it had left empty.
  for (int i = 0; i < kTries && !done && done.error().sys_errno == ENOENT; ++i) {
    const auto again = CacheDirectory::open(absolute_parent);
    done = again ? serve_in(*again) : std::unexpected(again.error());
  }
  if (!done) tell(done.error().message);
  ::_exit(done ? 0 : kCannotServe);
}

}  // namespace shardfs
