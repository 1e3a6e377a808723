#include "tools/mkshard/large_file.h"

#include <algorithm>
#include <cerrno>

#include <fcntl.h>
#include <unistd.h>

#include "tools/mkshard/member_source.h"

namespace shardfs {
namespace {

constexpr unsigned kChunksAhead = 6;

std::unexpected<Error> shrunk(const std::string& path) {
  return fail(ErrorKind::Io,
              path +
                  ": became shorter while it was read; what a tar has promised cannot be "
                  "taken back; try: again, or pack a snapshot of the directory");
}

Result<Bytes> read_chunk(int fd, std::uint64_t offset, std::uint64_t size,
                         const std::string& path) {
  Bytes bytes(size);
  for (std::uint64_t done = 0; done < size;) {
    const ssize_t count =
        ::pread(fd, bytes.data() + done, size - done, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno(errno, path, "cannot read");
    if (count == 0) return shrunk(path);
    done += static_cast<std::uint64_t>(count);
  }
  return bytes;
}

}  // namespace

Result<std::unique_ptr<LargeFile>> LargeFile::open(const FoundEntry& entry, ChunkPool& pool) {
  const std::string& path = entry.member.path;
  SHARDFS_TRY(UniqueFd fd, open_regular(*entry.directory, entry.name, path));
  struct stat status = {};
  if (::fstat(fd.get(), &status) != 0) return fail_errno(errno, path, "cannot stat");
  if (version_of(status) != entry.version) return changed_error(path);
  ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
  return std::unique_ptr<LargeFile>(new LargeFile(std::move(fd), path, entry.version, pool));
}

void LargeFile::read_ahead() {
  while (waiting_ < kChunksAhead && asked_ < version_.size) {
    const std::uint64_t offset = asked_;
    const std::uint64_t size = std::min(kChunk, version_.size - offset);
    pool_.submit([fd = fd_, offset, size, path = path_](ChunkPool::Claim&) {
      return read_chunk(fd->get(), offset, size, path);
    });
    asked_ += size;
    ++waiting_;
  }
}

Result<std::optional<Bytes>> LargeFile::next() {
  read_ahead();
  if (waiting_ == 0) return std::nullopt;
  auto chunk = pool_.pop();
  --waiting_;
  if (!chunk) return fail(ErrorKind::Interrupted, path_ + ": reading was cancelled");
  if (!*chunk) return std::unexpected(std::move(chunk->error()));
  return std::move(**chunk);
}

Result<void> LargeFile::check_unchanged() const {
  struct stat status = {};
  if (::fstat(fd_->get(), &status) != 0) return fail_errno(errno, path_, "cannot stat");
  if (version_of(status) != version_) return changed_error(path_);
  return {};
}

}  // namespace shardfs
