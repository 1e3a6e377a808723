#include "fs/archive/shard/reader.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "fs/archive/shard/seek_table.h"
#include "fs/archive/shard/tar_archive.h"
#include "fs/archive/shard/trailer.h"
#include "fs/archive/shard/ustar.h"
#include "fs/archive/shard/zst_archive.h"
#include "fs/base/checksum.h"

namespace shardfs {

namespace {

constexpr std::uint64_t kTail = 256 * 1024;  ///< where the trailer is looked for
constexpr std::uint64_t kMaxClosingZeros = 64 * 1024;
constexpr std::uint64_t kFirstPart = 4096;  ///< of an index; holds any superblock there is today

/// The last bytes of an archive.
struct Tail {
  std::uint64_t offset = 0;  ///< in the file
  Bytes bytes;
  [[nodiscard]] ByteSpan from(std::uint64_t position) const {
    return ByteSpan(bytes).subspan(position - offset);
  }
};

Result<Tail> read_tail(const ByteSource& source) {
  const std::uint64_t size = std::min(source.size(), kTail);
  Tail tail{source.size() - size, Bytes(size)};
  SHARDFS_CHECK(source.read_at(tail.offset, tail.bytes));
  return tail;
}

std::unexpected<Error> no_shard(const ByteSource& source) {
  return fail(ErrorKind::NotFound, source.name() + ": not a shard");
}

std::unexpected<Error> changed(const ByteSource& source, std::string_view how) {
  return fail(
      ErrorKind::Unsupported,
      fmt::format("{}: was a shard, but has been changed since ({}), so its index is not used; "
                  "try: copy it again, or mkshard {} -o NEW.tar",
                  source.name(), how, source.name()));
}

std::unexpected<Error> corrupt(const ByteSource& source, std::string_view what) {
  return fail(ErrorKind::Corrupt, fmt::format("{}: {}", source.name(), what));
}

bool all_zero(ByteSpan bytes) {
  return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
}

/// Why a file without trailer and without seek table cannot be opened.
std::unexpected<Error> explain(const ByteSource& source, const Tail& tail) {
  if (source.size() == 0)
    return fail(ErrorKind::Unsupported, source.name() + ": is empty, not an archive");
  Bytes head(std::min(source.size(), kTarBlock));
  SHARDFS_CHECK(source.read_at(0, head));
  const bool tar =
      as_text(head).substr(std::min<std::size_t>(head.size(), 257)).starts_with("ustar");
  const auto end = tail.from(source.size() - std::min<std::uint64_t>(tail.bytes.size(), 1024));
  if (tar && (source.size() % kTarBlock != 0 || !all_zero(end)))
    return corrupt(source,
                   "is cut short: a tar archive, or a shard once, without its end; try: "
                   "copy it again");
  return no_shard(source);
}

/// Reads an index up to CHECKSUMS and opens it. `superblock` is its XXH3-64, where known.
Result<OpenedShard> open_index(std::shared_ptr<const ByteSource> source,
                               std::unique_ptr<IndexStorage> storage,
                               std::optional<std::uint64_t> superblock) {
  SHARDFS_TRY(PageBuffer first, read_index(*storage, 0, std::min(storage->size(), kFirstPart)));
  SHARDFS_TRY(const std::size_t size, Superblock::encoded_size(first));
  if (size > first.size()) {
    if (size > storage->size()) return fail(ErrorKind::Corrupt, "index: superblock is cut short");
    SHARDFS_TRY(first, read_index(*storage, 0, size));
  }
  const ByteSpan bytes = ByteSpan(first).first(size);
  if (superblock && checksum64(bytes) != *superblock)
    return fail(ErrorKind::Corrupt, "index: superblock is damaged: its checksum does not hold");
  SHARDFS_TRY(const Superblock decoded, Superblock::decode(bytes));
  if (decoded.index_size != storage->size())
    return fail(ErrorKind::Corrupt, "index: its size is not what its container says");
  SHARDFS_TRY(PageBuffer front, read_index(*storage, 0, decoded.tree_size()));
  SHARDFS_TRY(auto index, Index::decode(std::move(front)));
  auto kept = std::make_unique<Index>(std::move(index));
  SHARDFS_TRY(Tree tree, Tree::open(*kept));
  return OpenedShard{std::move(source), std::move(storage), std::move(kept), std::move(tree)};
}

// ---- .tar ----

/// A trailer in its place, or the reason why none is believed.
struct Found {
  std::optional<Trailer> trailer;
  std::string why_not;  ///< empty: there is not even one that is not believed
  bool cut = false;
};

std::optional<Trailer> trailer_at(const Tail& tail, std::uint64_t position) {
  const ByteSpan rest = tail.from(position);
  const auto size = global_header_record_size(rest);
  if (!size || *size > rest.size() - kTarBlock) return std::nullopt;
  const auto value = comment_value(rest.subspan(kTarBlock, *size));
  return value ? Trailer::decode(*value) : std::nullopt;
}

/// Whether a trailer stood there that is not believed now: most of its words are still there.
bool was_trailer(const Tail& tail, std::uint64_t position) {
  constexpr std::string_view kWords[] = {
      " comment=shardfs-trailer ", " self=", " end=", " size=", " superblock=", " tail="};
  constexpr std::ptrdiff_t kMost = std::ssize(kWords) - 2;
  const ByteSpan rest = tail.from(position);
  if (rest.size() < 2 * kTarBlock) return false;
  const std::string_view record = as_text(rest.subspan(kTarBlock, kTarBlock));
  return std::ranges::count_if(kWords, [&](auto word) { return record.contains(word); }) >= kMost;
}

/// What speaks against a trailer that stands at `position`; empty if nothing does.
std::string objection(const Trailer& trailer, std::uint64_t position, std::uint64_t file_size,
                      const Tail& tail) {
  const std::uint64_t behind = position + Trailer::size_with(trailer.runs.size());
  if (trailer.self != position) return "its contents were moved";
  if (trailer.end < behind || trailer.end > file_size) return "its end is missing";
  if (checksum64(tail.from(behind).first(trailer.end - behind)) != trailer.tail)
    return "its last member was changed";
  if (trailer.end == file_size || !all_zero(tail.from(trailer.end)))
    return "something was put behind its end";
  if (file_size - trailer.end > kMaxClosingZeros) return "zeros were put behind its end";
  return {};
}

Found find_trailer(const Tail& tail, std::uint64_t file_size) {
  Found found;
  std::uint64_t position = file_size / kTarBlock * kTarBlock;
  while (position >= tail.offset + kTarBlock) {
    position -= kTarBlock;
    auto trailer = trailer_at(tail, position);
    if (!trailer && found.why_not.empty() && was_trailer(tail, position))
      found.why_not = "its trailer is damaged";
    if (!trailer) continue;
    const std::string why_not = objection(*trailer, position, file_size, tail);
    if (why_not.empty()) {
      found.trailer = std::move(trailer);
      return found;
    }
    if (!found.why_not.empty()) continue;
    found.why_not = why_not;
    found.cut = trailer->self == position && trailer->end >= file_size;
  }
  return found;
}

/// Whether the runs are as many as the index takes, one behind the other, the last before the
/// trailer.
bool runs_fit(const Trailer& trailer) {
  if (trailer.size == 0 || trailer.size > trailer.end ||
      trailer.runs.size() != IndexRuns::count_for(trailer.size))
    return false;
  std::uint64_t end = 0;
  for (std::size_t r = 0; r < trailer.runs.size(); ++r) {
    if (trailer.runs[r] < end || trailer.runs[r] > trailer.self) return false;
    end = trailer.runs[r] + IndexRuns::run_size(trailer.size, r);
  }
  return end == trailer.self;
}

bool fits(const Superblock& s, const Trailer& trailer) {
  return s.container == Container::Tar && s.archive_size == trailer.end &&
         s.tar_size == trailer.end && s.index_position == trailer.runs.front();
}

Result<std::unique_ptr<Archive>> open_tar(std::shared_ptr<const ByteSource> source,
                                          const Tail& tail) {
  Found found = find_trailer(tail, source->size());
  if (!found.trailer) {
    if (found.why_not.empty()) return explain(*source, tail);
    if (found.cut) return corrupt(*source, "is cut short: the shard's end is missing");
    return changed(*source, found.why_not);
  }
  const ByteSource& from = *source;
  if (!runs_fit(*found.trailer)) return corrupt(from, "trailer: impossible places of the index");
  auto storage = index_in_runs(from, IndexRuns(found.trailer->size, found.trailer->runs));
  SHARDFS_TRY(auto shard,
              open_index(std::move(source), std::move(storage), found.trailer->superblock));
  if (!fits(shard.index->superblock, *found.trailer))
    return fail(ErrorKind::Corrupt, "index: does not fit its trailer");
  return TarArchive::open(std::move(shard), *std::move(found.trailer));
}

// ---- .tar.zst ----

Result<std::unique_ptr<Archive>> open_zst(std::shared_ptr<const ByteSource> source,
                                          const Tail& tail) {
  const ByteSource& from = *source;
  const auto footer = decode_seek_footer(tail.bytes);
  if (!footer) return no_shard(from);
  const std::uint64_t after = seek_table_size(footer->frames) + footer->index_frame_size;
  if (after > from.size())
    return corrupt(from, "is cut short: it has not the bytes its seek table speaks of");
  const std::uint64_t position = from.size() - after;
  const std::uint64_t size = footer->index_frame_size - kFrameHeader;
  Bytes header(kFrameHeader);
  SHARDFS_CHECK(from.read_at(position, header));
  if (header != index_frame_header(size)) return no_shard(from);
  SHARDFS_TRY(auto shard,
              open_index(std::move(source), plain_index(from, position + kFrameHeader, size),
                         std::nullopt));
  const Superblock& s = shard.index->superblock;
  if (s.container != Container::TarZst)
    return fail(ErrorKind::Corrupt, "index: of another container");
  if (s.index_position != position || s.archive_size != from.size())
    return changed(from, "its contents were moved");
  return ZstArchive::open(std::move(shard), footer->frames);
}

}  // namespace

Result<std::unique_ptr<Archive>> open_shard(std::shared_ptr<const ByteSource> source) {
  const std::string name = source->name();
  SHARDFS_TRY(const Tail tail, read_tail(*source));
  auto archive = ends_in_seek_table(tail.bytes) ? open_zst(std::move(source), tail)
                                                : open_tar(std::move(source), tail);
  if (!archive && !archive.error().message.starts_with(name + ":"))
    archive.error().message = name + ": " + archive.error().message;
  return archive;
}

}  // namespace shardfs
