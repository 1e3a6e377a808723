// Repairs the checksums of a mutated archive, so that a fuzzer gets to the code behind them.
#pragma once

#include <functional>
#include <span>

#include "fs/base/bytes.h"

namespace shardfs {

/// Changes bytes in place; may not change how many there are.
using Change = std::function<void(std::span<std::byte>)>;

/// Makes the sizes, positions and checksums that trailer or seek table, superblock and sections
/// hold agree with `archive` as it is, after `change_index` has been applied to its plain index.
/// Repairs as far as it recognises a shard of either container; the rest stays as it is.
void resign(Bytes& archive, const Change& change_index);

/// Makes the checksums of a plain index agree with it, as far as it is one.
void sign_index(std::span<std::byte> index);

/// The section of type `type` in a plain index; empty if there is none within it.
[[nodiscard]] std::span<std::byte> section_in(std::span<std::byte> index, std::uint32_t type);

}  // namespace shardfs
