#include "fs/archive/zip/end_record.h"

#include <algorithm>
#include <array>
#include <optional>
#include <span>

#include "fs/archive/zip/records.h"
#include "fs/base/bytes.h"

namespace shardfs {

namespace {

constexpr std::size_t kEndSize = 22;
constexpr std::size_t kMaxComment = 0xffff;
constexpr std::size_t kLocatorSize = 20;
constexpr std::size_t kRecordSize = 56;

/// The last bytes of a file: as many as the end record, what may follow it and what stands in front
/// of it in a zip64 archive can take.
struct Tail {
  std::uint64_t offset = 0;
  Bytes bytes;
};

/// What either form of the end says.
struct End {
  std::uint64_t position = 0;  ///< of the record itself, in the file: the directory ends here
  std::uint64_t disk = 0, directory_disk = 0;
  std::uint64_t members_here = 0, members = 0;
  std::uint64_t size = 0, offset = 0;  ///< of the directory
  bool zip64 = false;
};

Result<Tail> read_tail(const ByteSource& source) {
  const std::uint64_t most = kRecordSize + kLocatorSize + kEndSize + kMaxComment;
  Tail tail;
  tail.bytes.resize(std::min(source.size(), most));
  tail.offset = source.size() - tail.bytes.size();
  SHARDFS_CHECK(source.read_at(tail.offset, tail.bytes));
  return tail;
}

/// Fills `out` from the tail where it is there, else from the file.
Result<void> read_part(const ByteSource& source, const Tail& tail, std::uint64_t offset,
                       std::span<std::byte> out) {
  if (offset < tail.offset || source.size() - offset < out.size())
    return source.read_at(offset, out);
  std::ranges::copy(ByteSpan(tail.bytes).subspan(offset - tail.offset, out.size()), out.data());
  return {};
}

/// Where the end record begins in `tail`. Its comment ends the file, or zeros do, with which some
/// stores fill the last block. Anything else behind it is not put up with: what is left of an
/// archive cut short may well hold the end of one that is a member of it.
std::optional<std::size_t> find_end(ByteSpan tail) {
  if (tail.size() < kEndSize) return std::nullopt;
  std::size_t zeros_from = tail.size();
  while (zeros_from > 0 && tail[zeros_from - 1] == std::byte{0}) --zeros_from;
  for (std::size_t at = tail.size() - kEndSize + 1; at-- > 0;) {
    if (load<std::uint32_t>(&tail[at]) != kEndMagic) continue;
    const std::size_t end = at + kEndSize + load<std::uint16_t>(&tail[at + 20]);
    if (end <= tail.size() && end >= zeros_from) return at;
  }
  return std::nullopt;
}

/// Why there is no end.
std::unexpected<Error> no_end(const ByteSource& source) {
  std::array<std::byte, 4> first{};
  if (source.size() >= first.size()) SHARDFS_CHECK(source.read_at(0, first));
  const auto magic = load<std::uint32_t>(first.data());
  if (magic == kLocalMagic || magic == kSpanningMagic)
    return fail(ErrorKind::Corrupt, source.name() + ": a zip archive without its end: cut short");
  return fail(ErrorKind::Unsupported, source.name() + ": not a zip archive");
}

End decode_end(const std::byte* record, std::uint64_t position) {
  return {.position = position,
          .disk = load<std::uint16_t>(record + 4),
          .directory_disk = load<std::uint16_t>(record + 6),
          .members_here = load<std::uint16_t>(record + 8),
          .members = load<std::uint16_t>(record + 10),
          .size = load<std::uint32_t>(record + 12),
          .offset = load<std::uint32_t>(record + 16)};
}

End decode_record(const std::byte* record, std::uint64_t position) {
  return {.position = position,
          .disk = load<std::uint32_t>(record + 16),
          .directory_disk = load<std::uint32_t>(record + 20),
          .members_here = load<std::uint64_t>(record + 24),
          .members = load<std::uint64_t>(record + 32),
          .size = load<std::uint64_t>(record + 40),
          .offset = load<std::uint64_t>(record + 48),
          .zip64 = true};
}

std::unexpected<Error> several_volumes(const ByteSource& source) {
  return fail(ErrorKind::Unsupported,
              source.name() +
                  ": one of a zip archive's several volumes; try: zip -s 0 on its last "
                  "volume, which makes one file of them");
}

/// Reads the zip64 record that the locator in front of an end record leads to. It is looked for
/// right before the locator first, where nearly all writers put it: there it is found even if
/// something stands in front of the archive.
Result<End> read_record(const ByteSource& source, const Tail& tail, std::uint64_t locator_position,
                        const std::byte* locator) {
  if (load<std::uint32_t>(locator + 16) > 1) return several_volumes(source);
  std::array<std::byte, kRecordSize> record;
  const std::uint64_t claimed = load<std::uint64_t>(locator + 8);
  for (const bool near : {true, false}) {
    if (near && locator_position < kRecordSize) continue;
    const std::uint64_t position = near ? locator_position - kRecordSize : claimed;
    if (position > locator_position || locator_position - position < kRecordSize) continue;
    SHARDFS_CHECK(read_part(source, tail, position, record));
    if (load<std::uint32_t>(record.data()) == kRecordMagic)
      return decode_record(record.data(), position);
  }
  return fail(ErrorKind::Corrupt,
              source.name() + ": a zip64 archive without the record of its end");
}

Result<End> read_end(const ByteSource& source, const Tail& tail) {
  const std::optional<std::size_t> found = find_end(tail.bytes);
  if (!found) return no_end(source);
  const std::byte* record = tail.bytes.data() + *found;
  if (*found >= kLocatorSize && load<std::uint32_t>(record - kLocatorSize) == kLocatorMagic)
    return read_record(source, tail, tail.offset + *found - kLocatorSize, record - kLocatorSize);
  return decode_end(record, tail.offset + *found);
}

/// Whether a central header stands at `offset`.
Result<bool> is_header(const ByteSource& source, const Tail& tail, std::uint64_t offset) {
  std::array<std::byte, 4> magic{};
  SHARDFS_CHECK(read_part(source, tail, offset, magic));
  return load<std::uint32_t>(magic.data()) == kCentralMagic;
}

}  // namespace

Result<DirectoryPlace> find_zip_directory(const ByteSource& source) {
  SHARDFS_TRY(const Tail tail, read_tail(source));
  SHARDFS_TRY(const End end, read_end(source, tail));
  if (end.disk != 0 || end.directory_disk != 0 || end.members_here != end.members)
    return several_volumes(source);
  const auto misplaced = [&] {
    return fail(ErrorKind::Corrupt,
                source.name() +
                    ": a zip archive whose directory is not where its end says: cut "
                    "short or damaged");
  };
  if (end.size > end.position || end.offset > end.position - end.size) return misplaced();
  DirectoryPlace place{.begin = end.position - end.size,
                       .end = end.position,
                       .shift = end.position - end.size - end.offset,
                       .members = end.members,
                       .zip64 = end.zip64};
  if (end.size == 0) return place;
  if (end.size < sizeof kCentralMagic) return misplaced();
  // It ends where the end begins; if that leads to none, something stands between the two.
  SHARDFS_TRY(const bool adjoins, is_header(source, tail, place.begin));
  if (adjoins) return place;
  place.begin = end.offset;
  place.end = end.offset + end.size;
  place.shift = 0;
  SHARDFS_TRY(const bool as_claimed, is_header(source, tail, place.begin));
  if (!as_claimed) return misplaced();
  return place;
}

}  // namespace shardfs
