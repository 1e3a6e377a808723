#include "fs/archive/sevenzip/places.h"

#include <algorithm>
#include <array>
#include <utility>

#include <zlib.h>

#include "fs/archive/foreign/block_table.h"
#include "fs/archive/foreign/crc32.h"
#include "fs/archive/sevenzip/header.h"
#include "fs/base/bytes.h"

namespace shardfs {

namespace {

constexpr std::array kMagic = {std::byte{'7'},  std::byte{'z'},  std::byte{0xbc},
                               std::byte{0xaf}, std::byte{0x27}, std::byte{0x1c}};
/// Of the header of a million members. What is made of it takes up to ten times as much memory.
constexpr std::uint64_t kMostHeader = std::uint64_t{1} << 27;
/// A packed header may be packed once more; nobody does so.
constexpr int kMostPackings = 4;

/// Methods, by the numbers that the format has for them.
constexpr std::uint64_t kCopy = 0x00, kLzma = 0x030101, kLzma2 = 0x21;

/// A method, with the largest distance back that it may refer to, bytes.
struct Packing {
  Coder coder;
  std::uint64_t dictionary = 0;
};

std::optional<Packing> packing_of(const SevenZipFolder& folder) {
  const Bytes& properties = folder.properties;
  if (folder.method == kCopy && folder.packed == folder.decoded) return Packing{{Codec::Stored}};
  if (folder.method == kLzma && properties.size() == 5)
    return Packing{{Codec::Lzma, std::to_integer<std::uint8_t>(properties[0])},
                   load<std::uint32_t>(&properties[1])};
  if (folder.method == kLzma2 && properties.size() == 1) {
    const auto size = std::to_integer<unsigned>(properties[0]);
    if (size > 40) return std::nullopt;
    return Packing{{Codec::Lzma2}, std::uint64_t{2 | (size & 1)} << (size / 2 + 11)};
  }
  return std::nullopt;
}

/// The header that a folder holds.
Result<std::optional<Bytes>> unpack_header(const ByteSource& source, const SevenZipFolder& folder) {
  const auto packing = packing_of(folder);
  if (!packing || folder.decoded > kMostHeader || folder.packed > kMostHeader)
    return std::optional<Bytes>();
  Bytes packed(folder.packed);
  SHARDFS_CHECK(source.read_at(folder.offset, packed));
  if (packing->coder.codec != Codec::Stored) {
    Bytes header(folder.decoded);
    const auto got = decode_block(packing->coder, packed, header);
    if (!got || *got != header.size()) return std::optional<Bytes>();
    packed = std::move(header);
  }
  if (folder.crc && *folder.crc != crc32_of(packed)) return std::optional<Bytes>();
  return packed;
}

Result<std::optional<SevenZipHeader>> read_header(const ByteSource& source) {
  using None = std::optional<SevenZipHeader>;
  if (source.size() < kSevenZipStart) return None();
  std::array<std::byte, kSevenZipStart> first{};
  SHARDFS_CHECK(source.read_at(0, first));
  const auto offset = load<std::uint64_t>(&first[12]), size = load<std::uint64_t>(&first[20]);
  const std::uint64_t behind = source.size() - kSevenZipStart;
  if (!std::ranges::equal(std::span(first).first(kMagic.size()), kMagic) || offset > behind ||
      size > behind - offset || size > kMostHeader)
    return None();
  Bytes bytes(size);
  SHARDFS_CHECK(source.read_at(kSevenZipStart + offset, bytes));
  if (crc32_of(bytes) != load<std::uint32_t>(&first[28])) return None();
  for (int i = 0; i < kMostPackings; ++i) {
    auto parsed = parse_sevenzip_header(bytes, source.size());
    if (!parsed) return None();
    if (!parsed->is_packed) return std::move(parsed->header);
    if (parsed->header.data.folders.size() != 1) return None();
    SHARDFS_TRY(auto unpacked, unpack_header(source, parsed->header.data.folders[0]));
    if (!unpacked) return None();
    bytes = *std::move(unpacked);
  }
  return None();
}

/// What can be decoded whole and at any time, or is one member's alone.
bool is_within_reach(const Packing& packing, const SevenZipFolder& folder) {
  return packing.coder.codec == Codec::Stored || folder.decoded <= kMaxWhole ||
         (folder.streams == 1 && packing.dictionary <= std::uint64_t{1} << kWindowLog);
}

/// Adds the places of the folder's members, of which `first` is the first.
bool add_places(const SevenZipFolder& folder, std::vector<SevenZipStream>::const_iterator first,
                std::vector<SevenZipPlace>& places, std::vector<SevenZipBlock>& blocks) {
  const auto packing = packing_of(folder);
  if (!packing || !is_within_reach(*packing, folder)) return false;
  const auto number = static_cast<std::uint32_t>(blocks.size());
  SevenZipBlock& block = blocks.emplace_back();
  block = {packing->coder, folder.offset, folder.packed, folder.decoded, 0, folder.streams > 1};
  std::uint64_t at = 0;
  for (std::uint64_t i = 0; i < folder.streams; ++i, ++first) {
    if (!first->crc && first->size != 0) return false;
    places.push_back({number, at, first->size});
    block.crc = static_cast<std::uint32_t>(
        ::crc32_combine(block.crc, first->crc.value_or(0), static_cast<z_off_t>(first->size)));
    at += first->size;
  }
  return true;
}

}  // namespace

Result<std::optional<SevenZipPlaces>> find_sevenzip_places(const ByteSource& source) {
  using None = std::optional<SevenZipPlaces>;
  SHARDFS_TRY(const auto header, read_header(source));
  if (!header) return None();
  SevenZipPlaces places;
  std::vector<SevenZipPlace> with_data;
  auto stream = header->data.streams.cbegin();
  for (const SevenZipFolder& folder : header->data.folders) {
    if (!add_places(folder, stream, with_data, places.blocks)) return None();
    stream += static_cast<std::ptrdiff_t>(folder.streams);
  }
  auto next = with_data.cbegin();
  for (const bool has_data : header->has_data)
    places.members.push_back(has_data ? *next++ : SevenZipPlace{});
  return places;
}

}  // namespace shardfs
