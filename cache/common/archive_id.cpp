#include "cache/common/archive_id.h"

#include <cerrno>

#include <fmt/format.h>
#include <sys/stat.h>

#include "fs/base/bytes.h"
#include "fs/base/checksum.h"

namespace shardfs {

namespace {

/// 64 TiB. What is kept of each unit takes some 600 bytes of memory, most of them checksums: 10 GB
/// for so many.
constexpr std::int64_t kMostBytes = std::int64_t{1} << 46;

std::int64_t nanoseconds(const timespec& time) {
  return static_cast<std::int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

}  // namespace

std::string ArchiveId::hex() const {
  std::string text;
  for (const std::byte b : bytes) text += fmt::format("{:02x}", std::to_integer<unsigned>(b));
  return text;
}

Result<ArchiveFacts> archive_facts(int fd, const std::string& name) {
  struct stat st {};
  if (::fstat(fd, &st) != 0) return fail_errno(errno, name, "cannot stat");
  if (!S_ISREG(st.st_mode)) return fail(ErrorKind::Invalid, name + ": not a regular file");
  if (st.st_size > kMostBytes)
    return fail(ErrorKind::Unsupported, name + ": larger than a cache can be, which is 64 TiB");
  Bytes facts;
  append(facts, static_cast<std::uint64_t>(st.st_size));
  append(facts, static_cast<std::uint64_t>(st.st_ino));
  append(facts, nanoseconds(st.st_mtim));
  append(facts, nanoseconds(st.st_ctim));
  return ArchiveFacts{ArchiveId{digest128(facts)}, static_cast<std::uint64_t>(st.st_size),
                      nanoseconds(st.st_mtim)};
}

}  // namespace shardfs
