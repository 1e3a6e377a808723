#include <algorithm>

#include "tests/fuzz/mutate.h"
#include "tests/fuzz/resign.h"

namespace {

/// One field of the superblock or its section table, which raw mutation of a large index rarely
/// hits.
void mutate_superblock(std::span<std::byte> index) {
  if (index.size() >= 16)
    shardfs::mutate_in_place(index.first(
        std::min<std::size_t>(index.size(), shardfs::load<std::uint32_t>(index.data() + 12))));
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned seed) {
  const auto input = std::as_bytes(std::span(data, size));
  std::minstd_rand random(seed);
  const auto kind = random() % 8;
  shardfs::Bytes mutated = kind < 2 ? shardfs::mutate_whole(input, max_size)
                                    : shardfs::Bytes(input.begin(), input.end());
  if (kind == 1) shardfs::resign(mutated, [](auto) {});
  if (kind == 2) shardfs::resign(mutated, mutate_superblock);
  if (kind > 2) shardfs::resign(mutated, shardfs::mutate_in_place);
  return shardfs::give_back(mutated, data, max_size);
}
