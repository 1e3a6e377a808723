#include "fs/archive/foreign/sidecar.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/base/checksum.h"
#include "fs/base/unique_fd.h"

namespace shardfs {

namespace {

constexpr std::uint64_t kSample = 64 * 1024;
constexpr std::string_view kSuffix = ".shardfs-index";

Result<void> write_all(int fd, ByteSpan bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, path, "cannot write the index");
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  if (::fsync(fd) != 0) return fail_errno(errno, path, "cannot write the index");
  return {};
}

Result<void> read_all(int fd, std::span<std::byte> out, const std::string& path) {
  while (!out.empty()) {
    const ssize_t n = ::read(fd, out.data(), out.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, path, "cannot read the index");
    if (n == 0) return fail(ErrorKind::Corrupt, path + ": the index is cut short");
    out = out.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

}  // namespace

Result<ArchiveState> state_of(const ByteSource& source, const Time& mtime) {
  ArchiveState state{source.size(), mtime, {}};
  const std::uint64_t sample = std::min(state.size, kSample);
  Bytes samples(3 * sample);
  const std::uint64_t offsets[] = {0, (state.size - sample) / 2, state.size - sample};
  for (std::size_t i = 0; i < 3; ++i)
    SHARDFS_CHECK(source.read_at(offsets[i], std::span(samples).subspan(i * sample, sample)));
  state.digest = digest128(samples);
  return state;
}

std::string sidecar_path(const std::string& archive) { return archive + std::string(kSuffix); }

Result<void> check_replaceable_by_index(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if ((!fd && errno == ENOENT) || path.ends_with(kSuffix)) return {};
  std::array<char, kPlainIndexMagic.size()> begin{};
  if (fd && ::pread(fd.get(), begin.data(), begin.size(), 0) == ssize_t{begin.size()} &&
      std::ranges::equal(begin, kPlainIndexMagic))
    return {};
  return fail(ErrorKind::Invalid, path + ": is there, and no index of an archive; not replaced");
}

Result<Index> load_index(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  struct stat st {};
  if (!fd || ::fstat(fd.get(), &st) != 0) return fail_errno(errno, path, "cannot open the index");
  if (!S_ISREG(st.st_mode)) return fail(ErrorKind::Invalid, path + ": not a regular file");
  PageBuffer bytes(static_cast<std::size_t>(st.st_size));
  SHARDFS_CHECK(read_all(fd.get(), bytes, path));
  auto index = Index::decode(std::move(bytes));
  if (!index) return fail(index.error().kind, path + ": " + index.error().message);
  if (index->superblock.container != Container::Foreign ||
      index->superblock.tree_size() != index->superblock.index_size)
    return fail(ErrorKind::Unsupported, path + ": not the index of an archive");
  return index;
}

Result<void> save_index(const Index& index, const std::string& path) {
  const std::size_t slash = path.rfind('/') + 1;
  std::string temporary = path.substr(0, slash) + "." + path.substr(slash) + ".tmp-XXXXXX";
  UniqueFd fd(::mkostemp(temporary.data(), O_CLOEXEC));
  // The cache's directory of indexes is made by the first one.
  if (!fd && errno == ENOENT && ::mkdir(path.substr(0, slash).c_str(), 0700) == 0) {
    temporary.replace(temporary.size() - 6, 6, "XXXXXX");
    fd.reset(::mkostemp(temporary.data(), O_CLOEXEC));
  }
  if (!fd) return fail_errno(errno, path, "cannot write the index");
  const mode_t mask = ::umask(0);
  ::umask(mask);
  auto done = write_all(fd.get(), ByteSpan(index.bytes).first(index.superblock.index_size), path);
  if (done &&
      (::fchmod(fd.get(), 0666 & ~mask) != 0 || ::rename(temporary.c_str(), path.c_str()) != 0))
    done = fail_errno(errno, path, "cannot write the index");
  if (!done) ::unlink(temporary.c_str());
  return done;
}

}  // namespace shardfs
