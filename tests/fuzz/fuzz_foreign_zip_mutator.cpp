#include <string_view>
#include <vector>

#include <zlib.h>

#include "tests/fuzz/mutate.h"

namespace {

using shardfs::as_text;
using shardfs::Bytes;
using shardfs::ByteSpan;
using shardfs::load;
using shardfs::store;

constexpr std::string_view kCentral{"PK\1\2"}, kEnd{"PK\5\6"}, kEnd64{"PK\6\6"};
constexpr std::size_t kLocalSize = 30, kCentralSize = 46, kEndSize = 22, kEnd64Size = 56;
constexpr std::uint16_t kStored = 0, kDeflate = 8;

/// Where `magic` stands, with `size` bytes from there on.
std::vector<std::size_t> places_of(const Bytes& zip, std::string_view magic, std::size_t size) {
  std::vector<std::size_t> places;
  for (std::size_t at = 0; (at = as_text(zip).find(magic, at)) != std::string_view::npos; ++at)
    if (zip.size() - at >= size) places.push_back(at);
  return places;
}

/// One record, or a part of the data behind it.
void mutate_record(Bytes& zip, std::minstd_rand& random) {
  const auto headers = places_of(zip, "PK", 4);
  if (headers.empty()) return;
  const std::size_t at = headers[random() % headers.size()];
  shardfs::mutate_in_place(std::span(zip).subspan(at, std::min<std::size_t>(zip.size() - at, 80)));
}

/// CRC-32 of what a member decodes to, as far as it can be decoded.
std::uint32_t checksum(ByteSpan packed, std::uint16_t method) {
  const auto* in = reinterpret_cast<const Bytef*>(packed.data());
  if (method == kStored) return crc32(0, in, static_cast<uInt>(packed.size()));
  Bytes out(256 * 1024);
  z_stream zlib = {};
  if (inflateInit2(&zlib, -MAX_WBITS) != Z_OK) return 0;
  zlib.next_in = const_cast<Bytef*>(in);
  zlib.avail_in = static_cast<uInt>(packed.size());
  zlib.next_out = reinterpret_cast<Bytef*>(out.data());
  zlib.avail_out = static_cast<uInt>(out.size());
  (void)inflate(&zlib, Z_FINISH);
  inflateEnd(&zlib);
  return crc32(0, reinterpret_cast<const Bytef*>(out.data()), static_cast<uInt>(zlib.total_out));
}

/// Gives the members the checksums that their data ask for.
void sign(Bytes& zip) {
  for (const std::size_t at : places_of(zip, kCentral, kCentralSize)) {
    const auto method = load<std::uint16_t>(&zip[at + 10]);
    const std::size_t local = load<std::uint32_t>(&zip[at + 42]);
    const std::size_t packed = load<std::uint32_t>(&zip[at + 20]);
    if ((method != kStored && method != kDeflate) || local > zip.size() ||
        zip.size() - local < kLocalSize)
      continue;
    const std::size_t data = local + kLocalSize + load<std::uint16_t>(&zip[local + 26]) +
                             load<std::uint16_t>(&zip[local + 28]);
    if (data > zip.size() || packed > zip.size() - data) continue;
    const std::uint32_t sum = checksum(ByteSpan(zip).subspan(data, packed), method);
    store(&zip[at + 16], sum);
    if ((load<std::uint16_t>(&zip[local + 6]) & 8) == 0) store(&zip[local + 14], sum);
  }
}

/// Has the end tell of the directory that is there.
void repair_end(Bytes& zip) {
  const auto headers = places_of(zip, kCentral, kCentralSize);
  const auto ends = places_of(zip, kEnd, kEndSize);
  if (headers.empty() || ends.empty() || ends.back() < headers.front()) return;
  const auto ends64 = places_of(zip, kEnd64, kEnd64Size);
  const std::size_t begin = headers.front();
  const std::size_t end = ends64.empty() ? ends.back() : std::max(begin, ends64.back());
  std::byte* const record = &zip[ends.back()];
  store(record + 8, static_cast<std::uint16_t>(headers.size()));
  store(record + 10, static_cast<std::uint16_t>(headers.size()));
  store(record + 12, static_cast<std::uint32_t>(end - begin));
  store(record + 16, static_cast<std::uint32_t>(begin));
  store(record + 20, static_cast<std::uint16_t>(zip.size() - ends.back() - kEndSize));
  if (ends64.empty()) return;
  std::byte* const record64 = &zip[ends64.back()];
  store<std::uint64_t>(record64 + 24, headers.size());
  store<std::uint64_t>(record64 + 32, headers.size());
  store<std::uint64_t>(record64 + 40, end - begin);
  store<std::uint64_t>(record64 + 48, begin);
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned seed) {
  const auto input = std::as_bytes(std::span(data, size));
  std::minstd_rand random(seed);
  Bytes mutated(input.begin(), input.end());
  if (random() % 3 == 0)
    mutated = shardfs::mutate_whole(input, max_size);
  else
    mutate_record(mutated, random);
  if (random() % 8 != 0) repair_end(mutated);
  if (random() % 2 == 0) sign(mutated);
  return shardfs::give_back(mutated, data, max_size);
}
