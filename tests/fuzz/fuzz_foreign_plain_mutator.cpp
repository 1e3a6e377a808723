#include "tests/fuzz/tar_headers.h"

namespace {

/// Longer than any header of a cpio or an ar, and about a directory of an iso.
constexpr std::size_t kWindow = 128;

/// One part in place: the sizes and places in the others still lead to where they led.
void mutate_part(shardfs::Bytes& archive, std::minstd_rand& random) {
  const std::size_t size = std::min(archive.size(), kWindow);
  const std::size_t at = random() % (archive.size() - size + 1);
  shardfs::mutate_in_place(std::span(archive).subspan(at, size));
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned seed) {
  std::minstd_rand random(seed);
  const auto input = std::as_bytes(std::span(data, size));
  shardfs::Bytes mutated(input.begin(), input.end());
  if (random() % 2 == 0)
    mutated = shardfs::mutate_tar(input, max_size, random);
  else
    mutate_part(mutated, random);
  return shardfs::give_back(mutated, data, max_size);
}
