#include <algorithm>

#include <zlib.h>

#include "tests/fuzz/mutate.h"

namespace {

using shardfs::Bytes;
using shardfs::load;
using shardfs::store;

constexpr std::size_t kStart = 32;

/// Where the first header says that the header is; all behind the start where that cannot be.
std::span<std::byte> header_of(Bytes& archive) {
  const auto rest = std::span(archive).subspan(kStart);
  const auto offset = load<std::uint64_t>(&archive[12]), size = load<std::uint64_t>(&archive[20]);
  if (offset > rest.size() || size > rest.size() - offset) return rest;
  return rest.subspan(offset, size);
}

std::uint32_t checksum(std::span<const std::byte> bytes) {
  return static_cast<std::uint32_t>(
      crc32(0, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(bytes.size())));
}

/// Has the first header tell of the header that is there, with its checksum and its own.
void sign(Bytes& archive) {
  const auto header = header_of(archive);
  store<std::uint64_t>(&archive[12],
                       static_cast<std::uint64_t>(header.data() - archive.data()) - kStart);
  store<std::uint64_t>(&archive[20], header.size());
  store(&archive[28], checksum(header));
  store(&archive[8], checksum(std::span(archive).subspan(12, 20)));
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned seed) {
  const auto input = std::as_bytes(std::span(data, size));
  std::minstd_rand random(seed);
  Bytes mutated(input.begin(), input.end());
  if (size < kStart || random() % 8 == 0)
    mutated = shardfs::mutate_whole(input, max_size);
  else if (random() % 4 == 0)
    shardfs::mutate_in_place(std::span(mutated).subspan(kStart));
  else
    shardfs::mutate_in_place(header_of(mutated));
  if (mutated.size() >= kStart && random() % 8 != 0) sign(mutated);
  return shardfs::give_back(mutated, data, max_size);
}
