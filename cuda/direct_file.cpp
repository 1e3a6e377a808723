#include "cuda/direct_file.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include <sys/stat.h>

#include "fs/base/bytes.h"

namespace shardfs {

Result<DirectFile::State> DirectFile::state_of(int fd) {
  struct stat st {};
  if (::fstat(fd, &st) != 0) return fail_errno(errno, "the archive", "cannot be looked at");
  return State{static_cast<std::uint64_t>(st.st_size),
               st.st_mtim.tv_sec * 1'000'000'000 + st.st_mtim.tv_nsec, st.st_mode};
}

Result<std::unique_ptr<DirectFile>> DirectFile::open(UniqueFd fd, std::shared_ptr<CuFile> cufile) {
  SHARDFS_TRY(const State state, state_of(fd.get()));
  SHARDFS_TRY(const CuFileHandle handle, cufile->register_file(fd.get()));
  return std::unique_ptr<DirectFile>(
      new DirectFile(std::move(fd), std::move(cufile), handle, state));
}

DirectFile::DirectFile(UniqueFd fd, std::shared_ptr<CuFile> cufile, CuFileHandle handle,
                       const State& state)
    : fd_(std::move(fd)), cufile_(std::move(cufile)), handle_(handle), state_(state) {}

DirectFile::~DirectFile() { cufile_->release(handle_); }

Result<void> DirectFile::read(DeviceAddress base, std::uint64_t bytes, std::uint64_t offset,
                              std::uint64_t at) const {
  const std::uint64_t pages = round_up(bytes, kDirectAlignment);
  std::uint64_t done = 0;
  while (done < bytes) {
    SHARDFS_TRY(const std::size_t got,
                cufile_->read(handle_, base, pages - done, offset + done, at + done));
    const std::uint64_t before = done;
    done += got;
    // Only the end of the file is no multiple; what is missing elsewhere is asked for again.
    if (done < bytes) done -= done % kDirectAlignment;
    if (done == before) return corrupt("the archive is cut short, or read by less than a page");
  }
  SHARDFS_TRY(const State now, state_of(fd_.get()));
  if (now != state_) return corrupt("the archive, or its copy on the node, has changed");
  return {};
}

Result<bool> DirectFile::is_served_by_nvidia_fs(DeviceAddress base) const {
  const std::uint64_t before = cufile_->nvidia_fs_reads();
  SHARDFS_CHECK(read(base, std::min(kDirectAlignment, state_.size), 0, 0));
  return cufile_->nvidia_fs_reads() > before;
}

}  // namespace shardfs
