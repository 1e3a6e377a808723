#include "fs/mount/unmount.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/base/crash.h"
#include "fs/base/unique_fd.h"

extern char** environ;  // NOLINT: POSIX has it nowhere else

namespace shardfs {
namespace {

struct Finished {
  int status = 0;     ///< as waitpid() gives it
  std::string words;  ///< what the program wrote there
};

std::string read_all(int fd) {
  std::string text;
  std::array<char, 512> part;
  ssize_t got;
  while ((got = ::read(fd, part.data(), part.size())) > 0) text.append(part.data(), got);
  return text;
}

Result<Finished> run(std::vector<const char*> command) {
  std::array<int, 2> ends;
  if (::pipe2(ends.data(), O_CLOEXEC) != 0)
    return fail_errno(errno, command[0], "cannot make a pipe");
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, writer.get(), STDERR_FILENO);
  command.push_back(nullptr);
  pid_t child = 0;
  const int err = ::posix_spawnp(&child, command[0], &actions, nullptr,
                                 const_cast<char* const*>(command.data()), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (err != 0) return fail_errno(err, command[0], "cannot run it");
  writer.reset();
  Finished finished;
  finished.words = read_all(reader.get());
  while (::waitpid(child, &finished.status, 0) < 0 && errno == EINTR) {
  }
  return finished;
}

Error cannot_unmount(int err, const std::string& directory) {
  Error error = fail_errno(err, directory, "cannot unmount").error();
  if (err == EBUSY) {
    error.message +=
        fmt::format("; try: shardfs umount -l {0}, or fuser -vm {0} to see who uses it", directory);
  }
  return error;
}

// fusermount3 tells by words only why it failed.
Error fusermount_error(const std::string& directory, const Finished& finished) {
  if (finished.words.contains("busy")) return cannot_unmount(EBUSY, directory);
  std::string text = finished.words.substr(0, finished.words.find_last_not_of('\n') + 1);
  std::ranges::replace(text, '\n', ' ');
  return fail(ErrorKind::Unsupported, fmt::format("{}: cannot unmount: {}", directory, text))
      .error();
}

// Holds nothing of the process it was forked from: neither the mount's device nor anybody's pipe.
void keep_only(const UniqueFd& fd, int as) {
  ::setsid();
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    ::dup2(null.get(), standard);
  if (fd.get() != as) ::dup2(fd.get(), as);
  ::closefrom(as + 1);
}

/// What a process that crashes unmounts. Set before the handler is, and never freed.
const std::string* crash_directory = nullptr;
std::uint64_t crash_device = 0;

/// Calls only what may be called by a signal's handler (signal-safety(7)), and vfork.
void unmount_crashing() {
  const char* const directory = crash_directory->c_str();
  if (device_at(*crash_directory) == crash_device &&
      ::umount2(directory, UMOUNT_NOFOLLOW | MNT_DETACH) != 0) {
    const pid_t child = ::vfork();
    if (child == 0) {
      for (const char* program :
           {"/usr/bin/fusermount3", "/bin/fusermount3", "/usr/local/bin/fusermount3"})
        ::execl(program, "fusermount3", "-u", "-z", "-q", "--", directory, nullptr);
      ::_exit(127);
    }
    if (child > 0) ::waitpid(child, nullptr, 0);
  }
}

}  // namespace

Result<void> unmount(const std::string& directory, Unmount how) {
  const bool lazily = how == Unmount::Lazily;
  if (::umount2(directory.c_str(), UMOUNT_NOFOLLOW | (lazily ? MNT_DETACH : 0)) == 0) return {};
  if (errno != EPERM) return std::unexpected(cannot_unmount(errno, directory));
  std::vector<const char*> command{"fusermount3", "-u"};
  if (lazily) command.push_back("-z");
  command.insert(command.end(), {"--", directory.c_str()});
  SHARDFS_TRY(const Finished finished, run(std::move(command)));
  if (finished.status != 0) return std::unexpected(fusermount_error(directory, finished));
  return {};
}

std::uint64_t device_at(const std::string& directory) {
  struct statx found = {};
  if (::statx(AT_FDCWD, directory.c_str(), AT_STATX_DONT_SYNC, 0, &found) != 0) return 0;
  return std::uint64_t{found.stx_dev_major} << 32 | found.stx_dev_minor;
}

void unmount_if_there(const std::string& directory, std::uint64_t device) {
  if (device_at(directory) == device) (void)unmount(directory, Unmount::Lazily);
}

Result<UniqueFd> unmount_at_end(const std::string& directory, std::uint64_t device) {
  std::array<int, 2> ends;
  if (::pipe2(ends.data(), O_CLOEXEC) != 0)
    return fail_errno(errno, directory, "cannot make a pipe");
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return fail_errno(errno, directory, "cannot fork");
  if (child > 0) return writer;
  constexpr int kPipe = STDERR_FILENO + 1;
  keep_only(reader, kPipe);
  read_all(kPipe);
  unmount_if_there(directory, device);
  ::_exit(0);
}

void unmount_if_crashing(const std::string& directory, std::uint64_t device) {
  crash_directory = new std::string(directory);
  crash_device = device;
  on_crash(unmount_crashing);
}

}  // namespace shardfs
