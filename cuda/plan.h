// How a batch of files is cut into the tasks of its readers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cuda/device.h"
#include "fs/tree/tree.h"

namespace shardfs {

/// One file, or a part of it, and where it is to go.
struct Item {
  Entry inode = 0;
  std::uint64_t offset = 0;    ///< in the file, bytes
  std::uint64_t length = 0;    ///< bytes, all of them inside the file
  std::uint64_t position = 0;  ///< of the file in the archive: neighbours are read together
  DeviceAddress to = 0;        ///< or a host address
};

/// A part of an item that is read at once.
struct Part {
  std::uint32_t item = 0;    ///< its number in the batch
  std::uint64_t offset = 0;  ///< in the file, bytes
  std::uint64_t length = 0;  ///< bytes, never 0
  DeviceAddress to = 0;
  std::uint64_t at = 0;  ///< bytes from the beginning of the task's staging memory
};

/// Parts that one reader stages and sends together.
struct Task {
  std::size_t first = 0;     ///< number of its first part
  std::uint32_t count = 0;   ///< parts
  std::uint64_t staged = 0;  ///< bytes of staging memory from 0 on
};

struct Plan {
  std::vector<Part> parts;
  std::vector<Task> tasks;
};

/// What a task may be.
struct PlanLimits {
  std::uint64_t staging = 0;  ///< bytes of staging memory, a multiple of kPartGrain
  unsigned readers = 1;
  /// Bytes between two items, less than kGap, belong to nobody else: they may be written to, so
  /// that neighbours in memory are one copy.
  bool gaps_are_free = false;
};

/// Files are cut at multiples of it: what their checksums cover, so that none is computed twice.
inline constexpr std::uint64_t kPartGrain = 64 * 1024;
/// Bytes. A copy of so much takes longer than starting it.
inline constexpr std::uint64_t kLeastTask = 512 * 1024;
/// Parts of a task: room for their table is set aside in the staging memory.
inline constexpr std::uint32_t kMostParts = 2048;
/// Files in an allocation of ours begin at multiples of it, as CUDA's own allocations do.
inline constexpr std::uint64_t kGap = 256;

/// Items in the order of the archive, none of length 0, in tasks large enough to be worth a copy
/// and small enough that every reader has some. In its staging memory a part has its destination's
/// remainder by 16, so that it can be moved in words of that size.
[[nodiscard]] Plan plan(std::span<const Item> items, const PlanLimits& limits);

/// Where items lie in an allocation of their own: addresses from 0 on, in the order of the archive,
/// each a multiple of kGap. Returns the bytes of all.
[[nodiscard]] std::uint64_t lay_out(std::span<Item> items);

}  // namespace shardfs
