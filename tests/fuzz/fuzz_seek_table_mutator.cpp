#include <algorithm>

#include "fs/tree/index.h"
#include "tests/fuzz/mutate.h"
#include "tests/fuzz/resign.h"

namespace {

using shardfs::Section;

shardfs::Change mutate_section(Section section) {
  return [section](std::span<std::byte> index) {
    shardfs::mutate_in_place(shardfs::section_in(index, static_cast<std::uint32_t>(section)));
  };
}

/// The entries of the seek table, and what ends the file.
void mutate_seek_table(shardfs::Bytes& archive) {
  const std::size_t size = std::min<std::size_t>(archive.size(), 128);
  shardfs::mutate_in_place(std::span(archive).last(size));
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned seed) {
  const auto input = std::as_bytes(std::span(data, size));
  std::minstd_rand random(seed);
  const auto kind = random() % 8;
  // Kinds 0 to 2 mutate anything, which is mostly frames: bytes that zstd is then to decode.
  shardfs::Bytes mutated = kind < 3 ? shardfs::mutate_whole(input, max_size)
                                    : shardfs::Bytes(input.begin(), input.end());
  if (kind == 1 || kind == 2) shardfs::resign(mutated, [](auto) {});
  if (kind == 3 || kind == 4) shardfs::resign(mutated, mutate_section(Section::FrameOffsets));
  if (kind == 5 || kind == 6) shardfs::resign(mutated, mutate_section(Section::FramePositions));
  if (kind == 7) mutate_seek_table(mutated);
  return shardfs::give_back(mutated, data, max_size);
}
