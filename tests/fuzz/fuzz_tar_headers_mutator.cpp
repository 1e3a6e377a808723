#include "tests/fuzz/tar_headers.h"

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned seed) {
  std::minstd_rand random(seed);
  const auto input = std::as_bytes(std::span(data, size));
  return shardfs::give_back(shardfs::mutate_tar(input, max_size, random), data, max_size);
}
