#include "cache/common/shared_arrays.h"

#include <cerrno>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

namespace shardfs {

namespace {

constexpr int kSizeSeals = F_SEAL_SHRINK | F_SEAL_GROW;

}  // namespace

Result<SharedMemory> SharedMemory::create(const char* name, std::size_t bytes) {
  UniqueFd fd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return fail_errno(errno, name, "cannot make shared memory");
  if (::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0)
    return fail_errno(errno, name, "cannot size shared memory");
  if (::fcntl(fd.get(), F_ADD_SEALS, kSizeSeals) != 0)
    return fail_errno(errno, name, "cannot seal shared memory");
  return map(std::move(fd), bytes, true);
}

Result<SharedMemory> SharedMemory::map(UniqueFd fd, std::size_t bytes, bool writable) {
  struct stat st {};
  const int seals = ::fcntl(fd.get(), F_GET_SEALS);
  if (::fstat(fd.get(), &st) != 0 || static_cast<std::uint64_t>(st.st_size) < bytes || seals < 0 ||
      (seals & kSizeSeals) != kSizeSeals)
    return fail(ErrorKind::Invalid, "shared memory of the wrong size or without seals");
  SharedMemory memory;
  memory.size_ = bytes;
  if (bytes > 0) {
    void* at = ::mmap(nullptr, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED,
                      fd.get(), 0);
    if (at == MAP_FAILED) return fail_errno(errno, "shared memory", "cannot map");
    memory.data_ = static_cast<std::byte*>(at);
  }
  memory.fd_ = std::move(fd);
  return memory;
}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : fd_(std::move(other.fd_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

SharedMemory& SharedMemory::operator=(SharedMemory&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

SharedMemory::~SharedMemory() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

Result<UniqueFd> SharedMemory::read_only_fd() const {
  return reopen(fd_.get(), O_RDONLY, "shared memory");
}

}  // namespace shardfs
