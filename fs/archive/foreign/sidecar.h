// The index of a foreign archive as a file, so that the archive is scanned only once.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "fs/base/byte_source.h"
#include "fs/base/result.h"
#include "fs/tree/index.h"
#include "fs/tree/tree.h"

namespace shardfs {

/// The state of an archive that an index belongs to.
struct ArchiveState {
  std::uint64_t size = 0;
  Time mtime;
  std::array<std::byte, 16> digest{};  ///< XXH3-128 of its first, middle and last 64 KiB
  friend bool operator==(const ArchiveState&, const ArchiveState&) = default;
};

/// Reads the three samples. `mtime` is what fstat(2) says of the archive.
[[nodiscard]] Result<ArchiveState> state_of(const ByteSource& source, const Time& mtime);

/// Name of the index beside an archive.
[[nodiscard]] std::string sidecar_path(const std::string& archive);
/// Invalid: something else is there than an index that may be made anew.
[[nodiscard]] Result<void> check_replaceable_by_index(const std::string& path);

/// NotFound: there is none. Corrupt or Unsupported: damaged, or no index of a foreign archive.
[[nodiscard]] Result<Index> load_index(const std::string& path);

/// Under a temporary name in the same directory first, so that `path` is never half an index.
[[nodiscard]] Result<void> save_index(const Index& index, const std::string& path);

}  // namespace shardfs
