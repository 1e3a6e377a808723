#include "fs/archive/indexed_archive.h"

#include <algorithm>

#include <fmt/format.h>

namespace shardfs {

ArchiveInfo IndexedArchive::counts() const {
  const Superblock& s = superblock();
  ArchiveInfo info;
  info.id = s.id();
  info.files = s.files;
  info.directories = s.directories;
  info.entries = s.entries;
  info.file_bytes = s.file_bytes;
  info.packed_bytes = source().size();
  info.index_bytes = s.index_size;
  return info;
}

std::string IndexedArchive::path_of(Entry entry) const {
  auto path = tree().path(entry);
  return path ? *std::move(path) : fmt::format("entry {}", entry);
}

std::unexpected<Error> IndexedArchive::damaged(Entry inode, std::string_view what,
                                               std::string_view unit, std::uint64_t n,
                                               std::uint64_t byte) const {
  return std::unexpected(Error{ErrorKind::Corrupt, 0,
                               fmt::format("{}: {}: {} ({} {}, byte {} of {})", source().name(),
                                           path_of(inode), what, unit, n, byte, source().name()),
                               Place{n, byte}});
}

std::unexpected<Error> IndexedArchive::cannot_read(Error error, Entry inode, std::string_view unit,
                                                   std::uint64_t n, std::uint64_t byte) const {
  if (error.kind == ErrorKind::WouldWait) return std::unexpected(std::move(error));
  error.message = fmt::format("{}: {}: cannot be read ({} {}, byte {} of {}): {}", source().name(),
                              path_of(inode), unit, n, byte, source().name(), error.message);
  error.place = Place{n, byte};
  return std::unexpected(std::move(error));
}

Result<std::uint64_t> IndexedArchive::readable(Entry inode, std::uint64_t offset,
                                               std::uint64_t wanted) const {
  if (inode >= tree().entries())
    return fail(ErrorKind::Invalid, fmt::format("{}: no entry {}", source().name(), inode));
  const std::uint64_t size = tree().file_size(inode);
  return offset >= size ? 0 : std::min(wanted, size - offset);
}

Result<std::uint64_t> IndexedArchive::data_position(Entry inode, std::uint64_t limit) const {
  SHARDFS_TRY(const std::uint64_t position, tree().position(inode));
  const std::uint64_t size = tree().file_size(inode);
  if (size > limit || position > limit - size)
    return fail(ErrorKind::Corrupt, fmt::format("{}: {}: index: its data lie outside the archive",
                                                source().name(), path_of(inode)));
  return position;
}

std::optional<ByteSpan> IndexedArchive::located_in(const DecodedBlock& block, Entry inode) const {
  if (inode >= tree().entries()) return std::nullopt;
  const std::uint64_t size = tree().file_size(inode);
  const auto position = tree().position(inode);
  if (size == 0 || !position || *position < block.position) return std::nullopt;
  const std::uint64_t skip = *position - block.position;
  if (skip > block.bytes.size() || size > block.bytes.size() - skip) return std::nullopt;
  return ByteSpan(block.bytes).subspan(skip, size);
}

Result<IndexedArchive::Stretch> IndexedArchive::stretch(Entry inode, std::uint64_t size,
                                                        std::uint64_t limit) const {
  SHARDFS_TRY(const std::uint64_t position, data_position(inode, limit));
  const std::uint64_t begin = position / size * size;
  return Stretch{begin, std::min(begin + size + kWindowTail, limit)};
}

}  // namespace shardfs
