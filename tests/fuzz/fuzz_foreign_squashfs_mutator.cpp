#include <array>

#include "tests/fuzz/mutate.h"

namespace {

using shardfs::load;
using shardfs::store;

constexpr std::size_t kSuperblock = 96;
constexpr std::size_t kBytesUsedAt = 40;
/// Of 64 bits each: of owners, attributes, inodes, directories, fragments, exports.
constexpr std::array<std::size_t, 6> kTablesAt = {48, 56, 64, 72, 80, 88};
/// About an inode with its list, or a directory of some names.
constexpr std::size_t kWindow = 64;

void mutate_superblock(shardfs::Bytes& image) {
  shardfs::mutate_in_place(std::span(image).first(kSuperblock));
}

/// Moves a table by a few bytes, or to where another one is.
void mutate_place(shardfs::Bytes& image, std::minstd_rand& random) {
  std::byte* const table = image.data() + kTablesAt[random() % kTablesAt.size()];
  const auto other = load<std::uint64_t>(image.data() + kTablesAt[random() % kTablesAt.size()]);
  store<std::uint64_t>(table, other + random() % 32 - 16);
}

/// Part of the metadata, which only images that keep them uncompressed survive.
void mutate_metadata(shardfs::Bytes& image, std::minstd_rand& random) {
  const auto inodes = std::min<std::uint64_t>(load<std::uint64_t>(image.data() + 64), image.size());
  const std::uint64_t at = inodes + random() % (image.size() - inodes + 1);
  shardfs::mutate_in_place(
      std::span(image).subspan(at, std::min<std::size_t>(image.size() - at, kWindow)));
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned seed) {
  const auto input = std::as_bytes(std::span(data, size));
  std::minstd_rand random(seed);
  const auto kind = random() % 16;
  shardfs::Bytes mutated(input.begin(), input.end());
  if (kind < 3 || size < kSuperblock)
    mutated = shardfs::mutate_whole(input, max_size);
  else if (kind < 5)
    mutate_superblock(mutated);
  else if (kind < 7)
    mutate_place(mutated, random);
  else
    mutate_metadata(mutated, random);
  // An image that seems to be cut short is not looked at any further.
  if (kind < 15 && mutated.size() >= kSuperblock)
    store<std::uint64_t>(mutated.data() + kBytesUsedAt, mutated.size());
  return shardfs::give_back(mutated, data, max_size);
}
