#include "tools/mkshard/output_file.h"

#include <cerrno>
#include <cstdio>
#include <filesystem>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/common/size.h"

namespace shardfs {
namespace {

// Parallel file systems want writes of several MiB.
constexpr std::size_t kBuffer = 4 * 1024 * 1024;
// ".NAME.tmp-XXXXXX" must stay within 255 bytes.
constexpr std::size_t kLongestName = 200;
constexpr int kAttempts = 100;

std::string directory_of(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

std::unexpected<Error> already_exists(const std::string& path) {
  return fail(ErrorKind::Invalid,
              fmt::format("{}: already exists; try: --force to replace it", path));
}

std::string random_suffix() {
  static constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz0123456789";
  std::array<unsigned char, 6> bytes{};
  if (::getrandom(bytes.data(), bytes.size(), 0) < 0)
    bytes.fill(static_cast<unsigned char>(::getpid()));
  std::string suffix;
  for (const unsigned char byte : bytes) suffix += kLetters[byte % kLetters.size()];
  return suffix;
}

std::string temporary_name(const std::string& output) {
  const auto path = std::filesystem::path(output);
  const std::string name =
      fmt::format(".{}.tmp-{}", path.filename().string().substr(0, kLongestName), random_suffix());
  return (path.parent_path() / name).string();
}

}  // namespace

Result<void> check_replaceable(const std::string& path, bool force) {
  struct stat status = {};
  if (::lstat(path.c_str(), &status) != 0) return {};  // Other errors show when the file is made.
  if (!S_ISREG(status.st_mode) && !S_ISLNK(status.st_mode)) {
    return fail(ErrorKind::Invalid, fmt::format("{}: is there and not a regular file", path));
  }
  if (force) return {};
  return already_exists(path);
}

Result<OutputFile> OutputFile::create(const std::string& output) {
  const std::string parent = directory_of(output);
  UniqueFd directory(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory) return fail_errno(errno, parent, "cannot open the output's directory");
  for (int i = 0; i < kAttempts; ++i) {
    std::string temporary = temporary_name(output);
    UniqueFd fd(::open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (fd) {
      return OutputFile(std::move(fd), std::move(directory), output, std::move(temporary));
    }
    if (errno != EEXIST) break;
  }
  return fail_errno(errno, output, "cannot create a file beside it");
}

OutputFile::OutputFile(UniqueFd fd, UniqueFd directory, std::string output, std::string temporary)
    : fd_(std::move(fd)),
      directory_(std::move(directory)),
      output_(std::move(output)),
      temporary_(std::move(temporary)) {
  struct stat status = {};
  if (::fstat(fd_.get(), &status) == 0) inode_ = {status.st_dev, status.st_ino};
  buffer_.reserve(kBuffer);
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : fd_(std::move(other.fd_)),
      directory_(std::move(other.directory_)),
      output_(std::move(other.output_)),
      temporary_(std::exchange(other.temporary_, {})),
      inode_(other.inode_),
      buffer_(std::move(other.buffer_)),
      written_(other.written_),
      checksum_(std::move(other.checksum_)) {}

OutputFile::~OutputFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

Result<void> OutputFile::write(ByteSpan bytes) {
  checksum_.update(bytes);
  while (!bytes.empty()) {
    const std::size_t count = std::min(bytes.size(), kBuffer - buffer_.size());
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.begin() + static_cast<long>(count));
    bytes = bytes.subspan(count);
    if (buffer_.size() == kBuffer) SHARDFS_CHECK(flush());
  }
  return {};
}

Result<void> OutputFile::flush() {
  for (ByteSpan rest = buffer_; !rest.empty();) {
    const ssize_t count = ::write(fd_.get(), rest.data(), rest.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return write_error(errno, "cannot write");
    rest = rest.subspan(static_cast<std::size_t>(count));
  }
  // Begins writing to the device, so that the fsync at the end has little left to wait for.
  ::sync_file_range(fd_.get(), static_cast<off_t>(written_), static_cast<off_t>(buffer_.size()),
                    SYNC_FILE_RANGE_WRITE);
  written_ += buffer_.size();
  buffer_.clear();
  return {};
}

Result<void> OutputFile::sync() {
  SHARDFS_CHECK(flush());
  if (::fsync(fd_.get()) != 0) return write_error(errno, "cannot write to the device");
  return {};
}

Result<void> OutputFile::publish(const std::string& path, bool force) {
  if (force) {
    SHARDFS_CHECK(check_replaceable(path, force));
    if (::rename(temporary_.c_str(), path.c_str()) != 0) {
      return fail_errno(errno, path, "cannot rename the finished file to it");
    }
  } else {
    SHARDFS_CHECK(rename_without_replacing(path));
  }
  temporary_.clear();
  // The name is the promise that the file is whole; it must survive a crash too. Some file systems
  // cannot sync a directory, which is no reason to fail.
  if (::fsync(directory_.get()) != 0 && errno != EINVAL && errno != ENOTSUP) {
    return fail_errno(errno, path,
                      "is complete, but its name may not survive a crash: cannot sync its "
                      "directory");
  }
  return {};
}

Result<void> OutputFile::rename_without_replacing(const std::string& path) {
  if (::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE) == 0) {
    return {};
  }
  if (errno == EEXIST) return already_exists(path);
  // NFS and Lustre do not know RENAME_NOREPLACE; link() fails where the name is taken, too.
  if (::link(temporary_.c_str(), path.c_str()) == 0) {
    ::unlink(temporary_.c_str());
    return {};
  }
  if (errno == EEXIST) return already_exists(path);
  SHARDFS_CHECK(check_replaceable(path, false));
  if (::rename(temporary_.c_str(), path.c_str()) == 0) return {};
  return fail_errno(errno, path, "cannot rename the finished file to it");
}

std::string OutputFile::digest() const { return fmt::format("{:016x}", checksum_.value()); }

std::unexpected<Error> OutputFile::write_error(int error, const char* what) const {
  auto failure =
      fail_errno(error, output_, fmt::format("{} after {}", what, format_size(written_)));
  std::string& message = failure.error().message;
  if (failure.error().kind == ErrorKind::NoSpace) {
    message += "; try: free some space, or another directory for -o; nothing is left behind";
  } else if (error == EFBIG) {
    message += "; try: ulimit -f unlimited";
  }
  return failure;
}

}  // namespace shardfs
