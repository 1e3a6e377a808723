// Mutation by libFuzzer's own means, applied to part of an input.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>

#include "fs/base/bytes.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace shardfs {

/// Mutates `bytes` without changing how many they are.
inline void mutate_in_place(std::span<std::byte> bytes) {
  if (bytes.empty()) return;
  LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(bytes.data()), bytes.size(), bytes.size());
}

/// Mutates the input as a whole; it may shrink, and grow up to `max_size`.
inline Bytes mutate_whole(ByteSpan input, std::size_t max_size) {
  Bytes out(input.begin(), input.end());
  out.resize(max_size);
  out.resize(LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(out.data()), input.size(), max_size));
  return out;
}

/// Hands a mutated input back to libFuzzer; returns its size.
inline std::size_t give_back(const Bytes& input, std::uint8_t* data, std::size_t max_size) {
  if (input.size() > max_size) return 0;
  std::memcpy(data, input.data(), input.size());
  return input.size();
}

}  // namespace shardfs
