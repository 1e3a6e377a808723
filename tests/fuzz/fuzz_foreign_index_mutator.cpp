#include <algorithm>

#include "fs/tree/index.h"
#include "tests/fuzz/mutate.h"
#include "tests/fuzz/resign.h"

namespace {

constexpr std::size_t kIndexSizeAt = 40;
constexpr std::uint32_t kTypes = static_cast<std::uint32_t>(shardfs::Section::ForeignFacts) + 1;
constexpr std::size_t kWindow = 32;

/// A few bytes of one section of the index.
void mutate_section(shardfs::Bytes& input, std::minstd_rand& random) {
  const auto size = shardfs::load<std::uint64_t>(input.data() + kIndexSizeAt);
  if (size > input.size()) return;
  for (int tries = 0; tries < 100; ++tries) {
    const auto section = shardfs::section_in(std::span(input).first(size), random() % kTypes);
    if (section.empty()) continue;
    const std::size_t at = random() % section.size();
    return shardfs::mutate_in_place(section.subspan(at, std::min(kWindow, section.size() - at)));
  }
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned seed) {
  const auto input = std::as_bytes(std::span(data, size));
  std::minstd_rand random(seed);
  shardfs::Bytes mutated(input.begin(), input.end());
  if (size < kIndexSizeAt + 8 || random() % 8 == 0)
    mutated = shardfs::mutate_whole(input, max_size);
  else
    mutate_section(mutated, random);
  return shardfs::give_back(mutated, data, max_size);
}
