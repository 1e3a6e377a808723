#include "tests/support/slowstore_files.h"

#include <algorithm>
#include <cerrno>
#include <memory>

#include <dirent.h>
#include <fcntl.h>

namespace slowstore {
namespace {

using shardfs::Result;
using shardfs::UniqueFd;

constexpr std::uint64_t kFirstInode = 2;

}  // namespace

Result<UniqueFd> Files::open_directory(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return shardfs::fail_errno(errno, path, "cannot open");
  return fd;
}

Result<const File*> Files::find(const std::string& name) {
  // O_NONBLOCK: opening a FIFO would wait for its writer.
  UniqueFd fd(::openat(directory_.get(), name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat st = {};
  if (!fd || ::fstat(fd.get(), &st) != 0) return shardfs::fail_errno(errno, name, "cannot open");
  if (!S_ISREG(st.st_mode)) return shardfs::fail_errno(ENOENT, name, "not a regular file");
  const std::lock_guard lock(mutex_);
  const File*& file = known_[{st.st_dev, st.st_ino}];
  if (file == nullptr) {
    file = &files_.emplace_back(File{kFirstInode + files_.size(), name, std::move(fd)});
  }
  return file;
}

const File& Files::at(std::uint64_t inode) const {
  const std::lock_guard lock(mutex_);
  return files_.at(inode - kFirstInode);
}

std::vector<std::pair<std::string, struct stat>> Files::list() const {
  std::vector<std::pair<std::string, struct stat>> found;
  const int fd = ::openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(fd), ::closedir);
  while (const dirent* entry = stream ? ::readdir(stream.get()) : nullptr) {
    struct stat st = {};
    if (::fstatat(directory_.get(), entry->d_name, &st, 0) == 0 && S_ISREG(st.st_mode)) {
      found.emplace_back(entry->d_name, st);
    }
  }
  std::ranges::sort(found, {}, [](const auto& one) { return one.first; });
  return found;
}

}  // namespace slowstore
