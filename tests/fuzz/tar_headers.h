// Tar headers in a mutated archive.
#pragma once

#include <algorithm>
#include <cstddef>
#include <random>
#include <span>

#include "tests/fuzz/mutate.h"

namespace shardfs {

inline constexpr std::size_t kTarBlock = 512;

/// Gives what looks like a tar header the checksum that its other bytes ask for.
inline void sign_tar_header(std::span<std::byte> header) {
  constexpr std::size_t kChecksumAt = 148, kChecksumSize = 8, kMagicAt = 257;
  if (as_text(ByteSpan(header).subspan(kMagicAt, 5)) != "ustar") return;
  const auto field = header.subspan(kChecksumAt, kChecksumSize);
  std::ranges::fill(field, std::byte{' '});
  unsigned sum = 0;
  for (const std::byte b : header) sum += std::to_integer<unsigned>(b);
  for (std::size_t digit = 6; digit-- > 0; sum >>= 3)
    field[digit] = static_cast<std::byte>('0' + (sum & 7));
  field[6] = std::byte{0};
}

/// Mutates the whole, or one block of it, and signs all headers.
inline Bytes mutate_tar(ByteSpan input, std::size_t max_size, std::minstd_rand& random) {
  Bytes mutated(input.begin(), input.end());
  const std::size_t blocks = input.size() / kTarBlock;
  if (blocks == 0 || random() % 3 == 0)
    mutated = mutate_whole(input, max_size);
  else
    mutate_in_place(std::span(mutated).subspan(random() % blocks * kTarBlock, kTarBlock));
  for (std::size_t at = 0; at + kTarBlock <= mutated.size(); at += kTarBlock)
    sign_tar_header(std::span(mutated).subspan(at, kTarBlock));
  return mutated;
}

}  // namespace shardfs
