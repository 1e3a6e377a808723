#include "tests/fuzz/resign.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>
#include <string_view>

#include "fs/archive/shard/index_runs.h"
#include "fs/archive/shard/trailer.h"
#include "fs/base/checksum.h"
#include "fs/tree/index.h"
#include "fs/tree/packed_column.h"

namespace shardfs {

namespace {

constexpr std::size_t kBlock = 512;
constexpr std::size_t kTable = 120;  ///< offset of the section table in a superblock
constexpr std::size_t kRow = 32;
constexpr std::size_t kSkippableHeader = 8;
constexpr std::size_t kSeekFooter = 9;
constexpr std::uint32_t kSeekableMagic = 0x8F92EAB1;
constexpr std::uint32_t kSeekTableFrame = 0x184D2A5E;
constexpr std::uint32_t kIndexFrame = 0x184D2A53;

/// Bytes of the superblock if `index` can hold one as large as it says.
std::optional<std::size_t> superblock_size(std::span<const std::byte> index) {
  if (index.size() < Superblock::kMinSize) return std::nullopt;
  const std::size_t size = load<std::uint32_t>(index.data() + 12);
  if (size < Superblock::kMinSize || size > index.size() ||
      (size - Superblock::kMinSize) % kRow != 0)
    return std::nullopt;
  return size;
}

/// The section a row of the table speaks of, if it lies in the index.
std::optional<std::span<std::byte>> section_of(std::span<std::byte> index, const std::byte* row) {
  const auto offset = load<std::uint64_t>(row + 8), length = load<std::uint64_t>(row + 16);
  if (offset > index.size() || length > index.size() - offset) return std::nullopt;
  return index.subspan(offset, length);
}

std::uint64_t hex_field(std::string_view text, std::string_view key) {
  std::uint64_t value = 0;
  const std::size_t at = text.find(key);
  if (at == text.npos || text.size() < at + key.size() + 16) return 0;
  const char* digits = text.data() + at + key.size();
  std::from_chars(digits, digits + 16, value, 16);
  return value;
}

/// Changes and signs the one chunk of an index that starts at `run`; returns the superblock's
/// checksum.
std::uint64_t resign_run(Bytes& archive, std::uint64_t run, std::uint64_t size,
                         const Change& change) {
  if (size == 0 || size > kIndexChunkBytes || run >= archive.size()) return 0;
  const auto place = IndexRuns(size, {run}).value(0);
  if (place.position > archive.size() || place.size > archive.size() - place.position) return 0;
  Bytes index(size);
  unescape(ByteSpan(archive).subspan(place.position, place.size), index);
  change(index);
  sign_index(index);
  escape(index, archive.data() + place.position);
  return checksum64(ByteSpan(index).first(superblock_size(index).value_or(0)));
}

/// Where the archive ends: after the last block that is not all zero.
std::uint64_t end_of(const Bytes& archive) {
  std::size_t end = archive.size();
  while (end > 0 && archive[end - 1] == std::byte{0}) --end;
  return (end + kBlock - 1) / kBlock * kBlock;
}

void resign_tar(Bytes& archive, std::size_t mark, const Change& change) {
  const std::string_view all = as_text(archive);
  const std::size_t value_at = mark + std::string_view("comment=").size();
  const std::size_t newline = all.find('\n', value_at);
  if (newline == all.npos || mark < 2 * kBlock) return;
  const std::string old(all.substr(value_at, newline - value_at));
  Trailer trailer;
  trailer.self = mark / kBlock * kBlock - kBlock;
  trailer.size = hex_field(old, " size=");
  trailer.runs = {hex_field(old, " runs=")};
  const std::uint64_t behind = trailer.self + Trailer::size_with(1);
  trailer.end = std::max(behind, end_of(archive));
  if (trailer.end > archive.size()) return;
  trailer.superblock = resign_run(archive, trailer.runs[0], trailer.size, change);
  trailer.tail = checksum64(ByteSpan(archive).subspan(behind, trailer.end - behind));
  const std::string now = trailer.encode();
  if (now.size() == old.size())
    std::ranges::copy(as_bytes(now), archive.begin() + static_cast<std::ptrdiff_t>(value_at));
}

/// Signs every frame that FRAME_OFFSETS places in the file.
void sign_frames(const Bytes& archive, std::span<std::byte> index) {
  const auto offsets = section_in(index, static_cast<std::uint32_t>(Section::FrameOffsets));
  const auto sums = section_in(index, static_cast<std::uint32_t>(Section::Checksums));
  if (offsets.size() < 8) return;
  const auto column = PackedColumn::open(offsets, load<std::uint64_t>(offsets.data()));
  if (!column) return;
  for (std::uint64_t i = 0; i + 1 < column->size() && 8 * (i + 1) <= sums.size(); ++i) {
    const std::uint64_t from = (*column)[i], to = (*column)[i + 1];
    if (from <= to && to <= archive.size())
      store(sums.data() + 8 * i, checksum64(ByteSpan(archive).subspan(from, to - from)));
  }
}

/// `at`: where the plain index begins.
void resign_zst(Bytes& archive, std::size_t at, const Change& change) {
  const std::byte* end = archive.data() + archive.size();
  const std::uint64_t table =
      kSkippableHeader + 8ull * load<std::uint32_t>(end - kSeekFooter) + kSeekFooter;
  if (table > archive.size() || archive.size() - table < at + Superblock::kMinSize) return;
  const std::uint64_t table_at = archive.size() - table;
  store(archive.data() + table_at, kSeekTableFrame);
  store(archive.data() + table_at + 4, static_cast<std::uint32_t>(table - kSkippableHeader));
  store(archive.data() + at - kSkippableHeader, kIndexFrame);
  store(archive.data() + at - 4, static_cast<std::uint32_t>(table_at - at));
  const auto index = std::span(archive).subspan(at, table_at - at);
  change(index);
  store<std::uint64_t>(index.data() + 80, archive.size());
  store<std::uint64_t>(index.data() + 88, at - kSkippableHeader);
  sign_frames(archive, index);
  sign_index(index);
}

}  // namespace

void sign_index(std::span<std::byte> index) {
  const auto size = superblock_size(index);
  if (!size) return;
  store<std::uint64_t>(index.data() + 40, index.size());
  for (std::size_t at = kTable; at + kRow + 8 <= *size; at += kRow) {
    std::byte* row = index.data() + at;
    if (const auto section = section_of(index, row)) store(row + 24, checksum64(*section));
  }
  store(index.data() + *size - 8, checksum64(index.first(*size - 8)));
}

std::span<std::byte> section_in(std::span<std::byte> index, std::uint32_t type) {
  const auto size = superblock_size(index);
  for (std::size_t at = kTable; size && at + kRow + 8 <= *size; at += kRow)
    if (load<std::uint32_t>(index.data() + at) == type)
      return section_of(index, index.data() + at).value_or(std::span<std::byte>());
  return {};
}

void resign(Bytes& archive, const Change& change_index) {
  const std::string_view text = as_text(archive);
  const bool seekable = archive.size() > kSeekFooter &&
                        load<std::uint32_t>(&archive[archive.size() - 4]) == kSeekableMagic;
  const std::size_t at = text.rfind(seekable ? "SHARDFS\n" : kTrailerMark);
  if (at == text.npos || at < kSkippableHeader) return;
  if (seekable)
    resign_zst(archive, at, change_index);
  else
    resign_tar(archive, at, change_index);
}

}  // namespace shardfs
