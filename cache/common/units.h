// Units: the pieces in which archives are fetched, kept and dropped.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

namespace shardfs {

using Unit = std::uint32_t;

/// Bytes. What parallel file systems serve best in one request, and large enough that few files
/// straddle two units: with 64 KiB units a cache of half the data gave 45 % hits, with these 50.
inline constexpr std::uint64_t kUnitBytes = 4 * 1024 * 1024;

[[nodiscard]] constexpr std::uint64_t units_of(std::uint64_t archive_bytes) {
  return (archive_bytes + kUnitBytes - 1) / kUnitBytes;
}

[[nodiscard]] constexpr Unit unit_at(std::uint64_t offset) {
  return static_cast<Unit>(offset / kUnitBytes);
}

/// Bytes of unit `unit` of an archive; only the last one is short.
[[nodiscard]] constexpr std::uint64_t unit_size(Unit unit, std::uint64_t archive_bytes) {
  return std::min(kUnitBytes, archive_bytes - unit * kUnitBytes);
}

/// Bytes. What is checked at a time where an archive has no checksums of its own: a unit of
/// checksums costs 512 bytes, and a small file is read with at most two chunks around it.
inline constexpr std::uint64_t kChunkBytes = 64 * 1024;
inline constexpr std::size_t kChunksPerUnit = kUnitBytes / kChunkBytes;

/// XXH3-64 of each chunk of a unit as it came from the store; 0 behind the end of a short one.
using ChunkSums = std::array<std::uint64_t, kChunksPerUnit>;

}  // namespace shardfs
