#include "fs/tree/index.h"

#include <algorithm>
#include <system_error>
#include <thread>

#include <fmt/format.h>

#include "fs/base/checksum.h"

namespace shardfs {

namespace {

constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kFixed = 120;  ///< bytes before the section table
constexpr std::size_t kRow = 32;     ///< of the section table
/// Far more sections than there will be, so that a damaged size makes nobody allocate gigabytes.
constexpr std::size_t kMaxSize = 64 * 1024;
/// Keeps sums of untrusted offsets from overflowing.
constexpr std::uint64_t kMaxIndexSize = std::uint64_t{1} << 48;
/// Below this a second thread costs more than it saves.
constexpr std::uint64_t kParallelFrom = 8 * 1024 * 1024;

Result<void> check_counts(const Superblock& s) {
  if (s.entries == 0 || s.entries > kMaxEntries)
    return damaged_index(fmt::format("impossible number of entries: {}", s.entries));
  if (s.directories == 0 || s.directories > s.entries || s.files >= s.entries)
    return damaged_index("superblock: impossible number of directories or files");
  if (s.index_size > kMaxIndexSize)
    return damaged_index(fmt::format("impossible size: {}", s.index_size));
  const auto container = static_cast<std::uint32_t>(s.container);
  if (container < 1 || container > 3)
    return damaged_index(fmt::format("superblock: unknown container {}", container));
  return {};
}

/// Reads one row of the section table; `end` is where the section before it ended.
Result<void> take_section(const std::byte* row, std::int64_t& last_type, std::uint64_t& end,
                          Superblock& superblock) {
  const auto type = load<std::uint32_t>(row);
  if (load<std::uint32_t>(row + 4) != 0)
    return damaged_index("section table: a reserved field is set");
  const SectionPlace place{load<std::uint64_t>(row + 8), load<std::uint64_t>(row + 16),
                           load<std::uint64_t>(row + 24)};
  if (type <= last_type) return damaged_index("section table: types out of order");
  if (place.length != 0 && superblock.place(Section::Checksums).length != 0)
    return damaged_index(fmt::format("section {} is behind CHECKSUMS", type));
  if (place.offset != round_up(end, 8) || place.offset > superblock.index_size ||
      place.length > superblock.index_size - place.offset)
    return damaged_index(fmt::format("section {} is out of place", type));
  last_type = type;
  end = place.offset + place.length;
  if (type < kSections) superblock.sections[type] = place;
  return {};
}

Result<void> take_section_table(ByteSpan table, std::uint64_t end, Superblock& superblock) {
  std::int64_t last_type = -1;
  for (std::size_t at = 0; at < table.size(); at += kRow)
    SHARDFS_CHECK(take_section(table.data() + at, last_type, end, superblock));
  if (end != superblock.index_size) return damaged_index("size differs from that of its sections");
  return {};
}

/// One section's checksum, and the zeros up to the next one.
bool section_holds(ByteSpan all, const SectionPlace& place) {
  if (checksum64(all.subspan(place.offset, place.length)) != place.checksum) return false;
  const std::uint64_t end = place.offset + place.length;
  const std::uint64_t next = std::min<std::uint64_t>(round_up(end, 8), all.size());
  return std::ranges::all_of(all.subspan(end, next - end),
                             [](std::byte b) { return b == std::byte{0}; });
}

/// The first of `sections` that does not hold; 0 if all do.
std::uint32_t find_damaged(const Index& index, const std::vector<std::uint32_t>& sections) {
  for (const std::uint32_t s : sections)
    if (!section_holds(index.bytes, index.superblock.sections[s])) return s;
  return 0;
}

/// Checks all sections but CHECKSUMS; 0 if all hold. The largest one goes to a thread of its own:
/// in a big index that is NAMES, and about half of the bytes.
std::uint32_t find_damaged(const Index& index) {
  const auto& places = index.superblock.sections;
  std::vector<std::uint32_t> rest;
  std::uint32_t largest = 0;
  for (std::uint32_t s = 1; s < kSections; ++s) {
    const bool absent = places[s].length == 0 && places[s].offset == 0;
    const bool later = places[s].offset + places[s].length > index.superblock.tree_size();
    if (absent || later) continue;
    rest.push_back(s);
    if (places[s].length > places[largest].length) largest = s;
  }
  if (index.bytes.size() < kParallelFrom || largest == 0) return find_damaged(index, rest);
  std::uint32_t in_largest = 0;
  std::jthread other;
  try {
    other = std::jthread([&] { in_largest = find_damaged(index, {largest}); });
    std::erase(rest, largest);
  } catch (const std::system_error&) {
    // A job's limit of threads is reached: this one does it all.
  }
  const std::uint32_t in_rest = find_damaged(index, rest);
  if (other.joinable()) other.join();
  return in_largest != 0 ? in_largest : in_rest;
}

void store_superblock(std::byte* to, const Superblock& s, std::size_t size, std::size_t sections) {
  std::ranges::copy(as_bytes(kPlainIndexMagic), to);
  store(to + 8, kVersion);
  store(to + 12, static_cast<std::uint32_t>(size));
  store(to + 32, static_cast<std::uint32_t>(s.container));
  store(to + 36, static_cast<std::uint32_t>(sections));
  const std::uint64_t fields[] = {s.index_size,     s.entries,    s.directories,
                                  s.files,          s.file_bytes, s.archive_size,
                                  s.index_position, s.tar_size,   s.header_digest};
  for (std::size_t i = 0; i < std::size(fields); ++i) store(to + 40 + 8 * i, fields[i]);
}

void store_row(std::byte* to, Section type, const SectionPlace& place) {
  store(to, static_cast<std::uint32_t>(type));
  store(to + 8, place.offset);
  store(to + 16, place.length);
  store(to + 24, place.checksum);
}

}  // namespace

std::unexpected<Error> damaged_index(std::string_view what) {
  return corrupt(fmt::format("index: {}", what));
}

Result<std::size_t> Superblock::encoded_size(ByteSpan first_bytes) {
  if (first_bytes.size() < 16 || as_text(first_bytes.first(8)) != kPlainIndexMagic)
    return damaged_index("does not begin as an index");
  const auto version = load<std::uint32_t>(first_bytes.data() + 8);
  if (version != kVersion)
    return fail(ErrorKind::Unsupported,
                fmt::format("index: format version {}, this program reads version {}; try: a newer "
                            "shardfs",
                            version, kVersion));
  const std::size_t size = load<std::uint32_t>(first_bytes.data() + 12);
  if (size < kMinSize || size > kMaxSize || (size - kMinSize) % kRow != 0)
    return damaged_index(fmt::format("impossible superblock size: {}", size));
  return size;
}

Result<Superblock> Superblock::decode(ByteSpan bytes) {
  SHARDFS_TRY(const std::size_t size, encoded_size(bytes));
  if (bytes.size() != size) return damaged_index("superblock is cut short");
  const std::byte* from = bytes.data();
  if (checksum64(bytes.first(size - 8)) != load<std::uint64_t>(from + size - 8))
    return damaged_index("superblock is damaged: its checksum does not hold");
  if (const auto required = load<std::uint64_t>(from + 16); required != 0)
    return fail(ErrorKind::Unsupported,
                fmt::format("index: needs features {:#x} that this program does not have; try: a "
                            "newer shardfs",
                            required));
  Superblock s;
  s.container = static_cast<Container>(load<std::uint32_t>(from + 32));
  std::uint64_t* const fields[] = {&s.index_size,     &s.entries,    &s.directories,
                                   &s.files,          &s.file_bytes, &s.archive_size,
                                   &s.index_position, &s.tar_size,   &s.header_digest};
  for (std::size_t i = 0; i < std::size(fields); ++i)
    *fields[i] = load<std::uint64_t>(from + 40 + 8 * i);
  if (load<std::uint64_t>(from + 112) != 0)
    return damaged_index("superblock: a reserved field is set");
  if (load<std::uint32_t>(from + 36) != (size - kMinSize) / kRow)
    return damaged_index("superblock: wrong number of sections");
  SHARDFS_CHECK(check_counts(s));
  SHARDFS_CHECK(take_section_table(bytes.subspan(kFixed, size - kMinSize), size, s));
  s.identity = digest128(bytes);
  return s;
}

std::uint64_t Superblock::tree_size() const {
  const SectionPlace& checksums = place(Section::Checksums);
  return checksums.length != 0 ? checksums.offset : index_size;
}

std::string Superblock::id() const {
  std::string text;
  for (const std::byte b : identity) text += fmt::format("{:02x}", std::to_integer<unsigned>(b));
  return text;
}

ByteSpan Index::section(Section s) const {
  const SectionPlace& place = superblock.place(s);
  if (place.offset + place.length > bytes.size()) return {};
  return ByteSpan(bytes).subspan(place.offset, place.length);
}

Result<Index> Index::decode(ByteSpan bytes) {
  PageBuffer copy(bytes.size());
  std::ranges::copy(bytes, copy.begin());
  return decode(std::move(copy));
}

Result<Index> Index::decode(PageBuffer bytes) {
  const ByteSpan all(bytes);
  SHARDFS_TRY(const std::size_t size, Superblock::encoded_size(all));
  if (size > bytes.size()) return damaged_index("superblock is cut short");
  SHARDFS_TRY(auto superblock, Superblock::decode(all.first(size)));
  if (bytes.size() < superblock.tree_size()) return damaged_index("is cut short");
  Index index{std::move(superblock), std::move(bytes)};
  if (const std::uint32_t s = find_damaged(index); s != 0)
    return damaged_index(fmt::format("section {} is damaged: its checksum does not hold", s));
  return index;
}

std::uint64_t index_size_for(const std::vector<std::uint64_t>& section_lengths) {
  std::uint64_t size = Superblock::kMinSize + kRow * section_lengths.size();
  for (const std::uint64_t length : section_lengths) size = round_up(size, 8) + length;
  return size;
}

Bytes encode_index(Superblock& superblock, const std::vector<std::pair<Section, Bytes>>& sections) {
  std::vector<std::uint64_t> lengths;
  for (const auto& [type, bytes] : sections) lengths.push_back(bytes.size());
  superblock.index_size = index_size_for(lengths);
  superblock.sections = {};

  const std::size_t size = Superblock::kMinSize + kRow * sections.size();
  Bytes out;
  out.reserve(superblock.index_size);
  out.resize(size);
  store_superblock(out.data(), superblock, size, sections.size());
  for (std::size_t i = 0; i < sections.size(); ++i) {
    const auto& [type, bytes] = sections[i];
    out.resize(round_up(out.size(), 8));
    const SectionPlace place{out.size(), bytes.size(), checksum64(bytes)};
    store_row(out.data() + kFixed + i * kRow, type, place);
    superblock.sections[static_cast<std::uint32_t>(type)] = place;
    append(out, ByteSpan(bytes));
  }
  store(out.data() + size - 8, checksum64(ByteSpan(out).first(size - 8)));
  superblock.identity = digest128(ByteSpan(out).first(size));
  return out;
}

}  // namespace shardfs
