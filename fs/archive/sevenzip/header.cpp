#include "fs/archive/sevenzip/header.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <utility>

namespace shardfs {

namespace {

/// What comes next in a header.
enum class Id : std::uint8_t {
  End = 0x00,
  Header = 0x01,
  MainStreams = 0x04,
  Files = 0x05,
  Packed = 0x06,
  Folders = 0x07,
  Streams = 0x08,
  Sizes = 0x09,
  Sums = 0x0a,
  Folder = 0x0b,
  FolderSizes = 0x0c,
  StreamCounts = 0x0d,
  WithoutData = 0x0e,
  PackedHeader = 0x17,
};

/// Of a member that has data: a name of one letter and its end, in UTF-16. So no header can claim
/// more members than it has room for.
constexpr std::uint64_t kLeastOfMember = 4;

class Parser {
 public:
  Parser(ByteSpan bytes, std::uint64_t end) : in_(bytes), end_(end) {}

  std::optional<SevenZipParsed> parse();

 private:
  using Sums = std::vector<std::optional<std::uint32_t>>;

  std::optional<std::uint64_t> number();
  /// A number of things that take at least a byte each.
  std::optional<std::uint64_t> count();
  bool comes(Id id);
  std::optional<std::vector<bool>> bits(std::uint64_t count);
  std::optional<Sums> sums(std::uint64_t count);

  std::optional<SevenZipStreams> streams();
  bool packed_ranges();
  bool folders();
  std::optional<SevenZipFolder> folder();
  bool parts();
  bool part_sizes();
  bool part_sums();
  bool files(SevenZipHeader& header);

  ByteReader in_;
  std::uint64_t end_;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges_;  ///< offset and size
  SevenZipStreams all_;
};

/// The first byte has as many ones at its top as bytes follow; what is left of it comes above them.
std::optional<std::uint64_t> Parser::number() {
  const auto first = in_.number<std::uint8_t>();
  if (!first) return std::nullopt;
  const int more = std::countl_one(*first);
  const auto bytes = in_.take(static_cast<std::size_t>(more));
  if (!bytes) return std::nullopt;
  std::uint64_t value = 0;
  for (int i = 0; i < more; ++i)
    value |= std::to_integer<std::uint64_t>((*bytes)[static_cast<std::size_t>(i)]) << (8 * i);
  if (more < 7) value |= std::uint64_t{*first & (0x7fu >> more)} << (8 * more);
  return value;
}

std::optional<std::uint64_t> Parser::count() {
  const auto value = number();
  return value && *value <= in_.rest().size() ? value : std::nullopt;
}

/// Passes `id` by, if it is next.
bool Parser::comes(Id id) {
  ByteReader next = in_;
  if (next.number<std::uint8_t>() != static_cast<std::uint8_t>(id)) return false;
  in_ = next;
  return true;
}

std::optional<std::vector<bool>> Parser::bits(std::uint64_t count) {
  const auto bytes = in_.take((count + 7) / 8);
  if (!bytes) return std::nullopt;
  std::vector<bool> all(count);
  for (std::size_t i = 0; i < count; ++i)
    all[i] = (std::to_integer<unsigned>((*bytes)[i / 8]) >> (7 - i % 8) & 1) != 0;
  return all;
}

std::optional<Parser::Sums> Parser::sums(std::uint64_t count) {
  const auto all = in_.number<std::uint8_t>();
  if (!all) return std::nullopt;
  const auto known = *all != 0 ? std::vector<bool>(count, true) : bits(count);
  if (!known) return std::nullopt;
  Sums sums(count);
  for (std::size_t i = 0; i < count; ++i) {
    if (!(*known)[i]) continue;
    sums[i] = in_.number<std::uint32_t>();
    if (!sums[i]) return std::nullopt;
  }
  return sums;
}

bool Parser::packed_ranges() {
  const auto first = number();
  const auto wanted = count();
  if (!first || !wanted || *first > end_ - kSevenZipStart || !comes(Id::Sizes)) return false;
  std::uint64_t at = kSevenZipStart + *first;
  for (std::uint64_t i = 0; i < *wanted; ++i) {
    const auto size = number();
    if (!size || *size > end_ - at) return false;
    ranges_.emplace_back(at, *size);
    at += *size;
  }
  if (comes(Id::Sums) && !sums(*wanted)) return false;
  return comes(Id::End);
}

std::optional<SevenZipFolder> Parser::folder() {
  constexpr unsigned kMethodSize = 0xf, kSeveral = 1 << 4, kProperties = 1 << 5, kReserved = 3 << 6;
  if (number() != 1) return std::nullopt;
  const auto flags = in_.number<std::uint8_t>();
  if (!flags || (*flags & (kSeveral | kReserved)) != 0) return std::nullopt;
  SevenZipFolder folder;
  const std::size_t size = *flags & kMethodSize;
  const auto method = in_.take(size);
  if (!method || size > sizeof folder.method) return std::nullopt;
  for (const std::byte byte : *method)
    folder.method = folder.method << 8 | std::to_integer<std::uint64_t>(byte);
  if ((*flags & kProperties) != 0) {
    const auto room = count();
    const auto properties = room ? in_.take(*room) : std::nullopt;
    if (!properties) return std::nullopt;
    append(folder.properties, *properties);
  }
  return folder;
}

bool Parser::folders() {
  if (!comes(Id::Folder)) return false;
  const auto wanted = count();
  const auto elsewhere = in_.number<std::uint8_t>();
  if (!wanted || *wanted != ranges_.size() || elsewhere != 0) return false;
  for (const auto& [offset, size] : ranges_) {
    auto next = folder();
    if (!next) return false;
    next->offset = offset;
    next->packed = size;
    all_.folders.push_back(*std::move(next));
  }
  if (!comes(Id::FolderSizes)) return false;
  for (SevenZipFolder& folder : all_.folders) {
    const auto size = number();
    if (!size) return false;
    folder.decoded = *size;
  }
  if (comes(Id::Sums)) {
    const auto known = sums(*wanted);
    if (!known) return false;
    for (std::size_t i = 0; i < known->size(); ++i) all_.folders[i].crc = (*known)[i];
  }
  return comes(Id::End);
}

/// All but the last one of a folder have their sizes written down.
bool Parser::part_sizes() {
  const bool are_written = comes(Id::Sizes);
  for (const SevenZipFolder& folder : all_.folders) {
    if (folder.streams > 1 && !are_written) return false;
    std::uint64_t left = folder.decoded;
    for (std::uint64_t i = 0; i < folder.streams; ++i) {
      const auto size = i + 1 < folder.streams ? number() : left;
      if (!size || *size > left) return false;
      left -= *size;
      all_.streams.push_back({.size = *size, .crc = {}});
    }
  }
  return true;
}

/// A folder of one member may have its checksum; those of all others follow.
bool Parser::part_sums() {
  std::vector<SevenZipStream*> others;
  auto stream = all_.streams.begin();
  for (const SevenZipFolder& folder : all_.folders) {
    const bool is_known = folder.streams == 1 && folder.crc;
    if (is_known) stream->crc = folder.crc;
    for (std::uint64_t i = 0; i < folder.streams; ++i, ++stream)
      if (!is_known) others.push_back(&*stream);
  }
  if (!comes(Id::Sums)) return true;
  const auto known = sums(others.size());
  if (!known) return false;
  for (std::size_t i = 0; i < others.size(); ++i) others[i]->crc = (*known)[i];
  return true;
}

bool Parser::parts() {
  std::uint64_t most = in_.rest().size() / kLeastOfMember;
  if (comes(Id::StreamCounts)) {
    for (SevenZipFolder& folder : all_.folders) {
      const auto streams = number();
      if (!streams || *streams > most) return false;
      folder.streams = *streams;
      most -= *streams;
    }
  }
  return part_sizes() && part_sums() && comes(Id::End);
}

std::optional<SevenZipStreams> Parser::streams() {
  if (comes(Id::Packed) && !packed_ranges()) return std::nullopt;
  if (comes(Id::Folders) && !folders()) return std::nullopt;
  if (comes(Id::Streams) ? !parts() : !(part_sizes() && part_sums())) return std::nullopt;
  if (!comes(Id::End)) return std::nullopt;
  return std::move(all_);
}

/// The properties of the members: of interest is only who has data.
bool Parser::files(SevenZipHeader& header) {
  const auto members = count();
  if (!members) return false;
  header.has_data.assign(*members, true);
  while (!comes(Id::End)) {
    const bool is_wanted = comes(Id::WithoutData);
    const auto id = is_wanted ? 0 : number();
    const auto size = number();
    if (!id || !size || *size > in_.rest().size()) return false;
    ByteReader behind = in_;
    if (!behind.take(*size)) return false;
    if (is_wanted) {
      const auto empty = bits(*members);
      if (!empty) return false;
      header.has_data = *empty;
      header.has_data.flip();
    }
    in_ = behind;
  }
  return std::cmp_equal(std::ranges::count(header.has_data, true), header.data.streams.size());
}

std::optional<SevenZipParsed> Parser::parse() {
  SevenZipParsed parsed;
  if (end_ < kSevenZipStart) return std::nullopt;
  parsed.is_packed = comes(Id::PackedHeader);
  if (!parsed.is_packed && !comes(Id::Header)) return std::nullopt;
  if (parsed.is_packed || comes(Id::MainStreams)) {
    auto data = streams();
    if (!data) return std::nullopt;
    parsed.header.data = *std::move(data);
  }
  if (parsed.is_packed) return parsed;
  if (comes(Id::Files) && !files(parsed.header)) return std::nullopt;
  if (!comes(Id::End)) return std::nullopt;
  return parsed;
}

}  // namespace

std::optional<SevenZipParsed> parse_sevenzip_header(ByteSpan bytes, std::uint64_t end) {
  return Parser(bytes, end).parse();
}

}  // namespace shardfs
