#include "tests/fuzz/streams.h"
#include "tests/fuzz/tar_headers.h"

namespace {

constexpr std::size_t kMostDecoded = 256 * 1024;

}  // namespace

// A mutated stream rarely passes its checksum, so most are made anew, of mutated content and in
// another way of those that the format knows.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned seed) {
  std::minstd_rand random(seed);
  const auto input = std::as_bytes(std::span(data, size));
  const auto kind = random() % 8;
  if (kind < 2) return shardfs::give_back(shardfs::mutate_whole(input, max_size), data, max_size);
  const shardfs::Bytes content = shardfs::decoded_stream(input, kMostDecoded);
  if (content.empty())
    return shardfs::give_back(shardfs::mutate_whole(input, max_size), data, max_size);
  shardfs::Bytes mutated = content;
  if (kind < 7) mutated = shardfs::mutate_tar(content, kMostDecoded, random);
  shardfs::Bytes packed = shardfs::encoded_stream(mutated, random);
  if (packed.size() > max_size) return size;
  if (random() % 4 == 0) shardfs::mutate_in_place(packed);
  return shardfs::give_back(packed, data, max_size);
}
