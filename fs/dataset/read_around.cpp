#include "fs/dataset/read_around.h"

#include <algorithm>

#include <fcntl.h>

namespace shardfs {

ReadAround::ReadAround(std::unique_ptr<FileSource> file)
    : file_(std::move(file)), announced_((file_->size() + kWindow - 1) / kWindow) {}

Result<void> ReadAround::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  if (!out.empty() && offset < size()) {
    const std::uint64_t last = std::min(offset + out.size(), size()) - 1;
    for (std::uint64_t w = offset / kWindow; w <= last / kWindow; ++w) announce(w);
  }
  return file_->read_at(offset, out);
}

// Advice that is not taken costs nothing: the read that follows fetches what it needs itself.
void ReadAround::announce(std::uint64_t window) const {
  if (announced_.contains(window) || !announced_.insert(window)) return;
  ::posix_fadvise(file_->fd(), static_cast<off_t>(window * kWindow), kWindow, POSIX_FADV_WILLNEED);
}

}  // namespace shardfs
