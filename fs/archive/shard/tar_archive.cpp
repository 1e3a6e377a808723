#include "fs/archive/shard/tar_archive.h"

#include <algorithm>

#include <fmt/format.h>

#include "fs/archive/shard/pieces.h"
#include "fs/base/checksum.h"

namespace shardfs {

namespace {

/// Requests over at most so many pieces that do not begin and end with them are read whole into a
/// buffer and copied; of larger ones only the first and last piece are.
constexpr std::uint64_t kBuffered = 4 * kPieceBytes;
constexpr std::uint64_t kGroup = PackedColumn::kGroup;

}  // namespace

Result<std::unique_ptr<Archive>> TarArchive::open(OpenedShard shard, Trailer trailer) {
  const std::uint64_t groups = (shard.tree.entries() + kGroup - 1) / kGroup;
  if (shard.index->section(Section::PieceBases).size() != groups * sizeof(std::uint64_t))
    return fail(ErrorKind::Corrupt,
                shard.source->name() + ": index: pieces do not fit the entries");
  return std::unique_ptr<Archive>(new TarArchive(std::move(shard), std::move(trailer)));
}

std::uint64_t TarArchive::first_piece(Entry inode) const {
  const ByteSpan bases = index().section(Section::PieceBases);
  const Entry group = inode / kGroup;
  auto piece = load<std::uint64_t>(bases.data() + group * sizeof(std::uint64_t));
  for (Entry e = group * kGroup; e < inode; ++e) piece += pieces_of(tree().file_size(e));
  return piece;
}

Result<TarArchive::File> TarArchive::file(Entry inode, Wait wait) const {
  SHARDFS_TRY(const ByteSpan all, checksums(wait));
  SHARDFS_TRY(const std::uint64_t position, data_position(inode, superblock().archive_size));
  const std::uint64_t first = first_piece(inode);
  const std::uint64_t size = tree().file_size(inode);
  const std::uint64_t pieces = pieces_of(size);
  const std::uint64_t known = all.size() / sizeof(std::uint64_t);
  if (pieces > known || first > known - pieces)
    return fail(ErrorKind::Corrupt,
                fmt::format("{}: {}: index: it has no checksums", source().name(), path_of(inode)));
  return File{inode, size, position, first,
              all.subspan(first * sizeof(std::uint64_t), pieces * sizeof(std::uint64_t))};
}

std::optional<std::uint64_t> TarArchive::damaged_piece(const File& file, ByteSpan bytes,
                                                       std::uint64_t piece) {
  for (; !bytes.empty(); ++piece) {
    const ByteSpan one = bytes.first(std::min<std::size_t>(bytes.size(), kPieceBytes));
    const std::byte* expected = file.checksums.data() + piece * sizeof(std::uint64_t);
    if (checksum64(one) != load<std::uint64_t>(expected)) return piece;
    bytes = bytes.subspan(one.size());
  }
  return std::nullopt;
}

Result<void> TarArchive::read_pieces(const File& file, std::uint64_t offset,
                                     std::span<std::byte> out, Wait wait) const {
  const std::uint64_t piece = offset / kPieceBytes;
  const std::uint64_t at = file.position + offset;
  std::optional<std::uint64_t> bad;
  auto done = read_checked(wait, at, out, [&] {
    bad = damaged_piece(file, out, piece);
    return !bad;
  });
  if (done) return {};
  if (bad && done.error().kind == ErrorKind::Corrupt && done.error().message.empty())
    return damaged(file.inode, "damaged", "piece", *bad, file.position + *bad * kPieceBytes);
  return cannot_read(std::move(done).error(), file.inode, "piece", piece, at);
}

/// Reads from the front of `out`; returns how much.
Result<std::size_t> TarArchive::read_from(const File& file, std::uint64_t offset,
                                          std::span<std::byte> out, Wait wait) const {
  const std::uint64_t end = offset + out.size();
  const std::uint64_t first = offset / kPieceBytes * kPieceBytes;
  const std::uint64_t last = std::min(round_up(end, kPieceBytes), file.size);
  if (first == offset) {
    // Pieces that lie whole in `out` go there at once.
    const std::uint64_t whole = last == end ? end : end / kPieceBytes * kPieceBytes;
    const std::uint64_t size = std::min(whole - offset, kStoreRequest);
    const bool all = last == end || last - first > kBuffered;
    if (size > 0 && all) {
      SHARDFS_CHECK(read_pieces(file, offset, out.first(size), wait));
      return size;
    }
  }
  const std::uint64_t stop = last - first <= kBuffered ? last : first + kPieceBytes;
  thread_local Bytes buffer(kBuffered);
  const auto pieces = std::span(buffer).first(stop - first);
  SHARDFS_CHECK(read_pieces(file, first, pieces, wait));
  const std::size_t size = std::min(end, stop) - offset;
  std::ranges::copy(pieces.subspan(offset - first, size), out.begin());
  return size;
}

Result<std::size_t> TarArchive::read_some(Entry inode, std::uint64_t offset,
                                          std::span<std::byte> out, Wait wait,
                                          std::shared_ptr<const DecodedBlock>*) const {
  SHARDFS_TRY(const std::uint64_t wanted, readable(inode, offset, out.size()));
  if (wanted == 0) return 0;
  SHARDFS_TRY(const File from, file(inode, wait));
  for (std::uint64_t done = 0; done < wanted;) {
    SHARDFS_TRY(const std::size_t size,
                read_from(from, offset + done, out.subspan(done, wanted - done), wait));
    done += size;
  }
  return wanted;
}

Result<void> TarArchive::window(Entry inode, std::uint64_t size, DecodedBlock& block) const {
  SHARDFS_TRY(const Stretch wanted, stretch(inode, size, superblock().archive_size));
  block.position = wanted.begin;
  block.bytes.resize(wanted.end - wanted.begin);
  return source().read_at(wanted.begin, block.bytes);
}

std::optional<ByteSpan> TarArchive::contents_in(const DecodedBlock& block, Entry inode) const {
  const auto bytes = located_in(block, inode);
  if (!bytes) return std::nullopt;
  const auto from = file(inode, Wait::Yes);
  if (!from || damaged_piece(*from, *bytes, 0)) return std::nullopt;
  return bytes;
}

Result<std::vector<Extent>> TarArchive::extents(Entry inode) const {
  const std::uint64_t whole = UINT64_MAX;
  SHARDFS_TRY(const std::uint64_t size, readable(inode, 0, whole));
  std::vector<Extent> list;
  if (size == 0) return list;
  SHARDFS_TRY(const std::uint64_t position, data_position(inode, superblock().archive_size));
  list.push_back({.offset = position, .length = size, .stored = true, .skip = 0, .decoded = size});
  return list;
}

}  // namespace shardfs
