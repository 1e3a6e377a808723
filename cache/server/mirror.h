// The copy of an archive that a node keeps: sparse, at the archive's own offsets.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "cache/common/archive_id.h"
#include "cache/common/cache_directory.h"
#include "cache/common/units.h"
#include "fs/base/bytes.h"
#include "fs/base/result.h"
#include "fs/base/unique_fd.h"

namespace shardfs {

/// A file under mirror/ of the cache directory, or memory. Once complete and verified it is sealed:
/// renamed from ID.part to ID and made read-only; the name is the seal. Reads and writes may come
/// from any thread, all else from one.
class Mirror {
 public:
  [[nodiscard]] static Result<Mirror> in_memory(std::uint64_t archive_bytes);
  /// The one that is there, or a new one. `directory` must outlive it.
  [[nodiscard]] static Result<Mirror> on_disk(const CacheDirectory& directory, const ArchiveId& id,
                                              std::uint64_t archive_bytes);

  [[nodiscard]] bool is_in_memory() const { return directory_ == nullptr; }
  [[nodiscard]] bool is_sealed() const { return sealed_; }
  /// It was made just now, so no unit can be in it.
  [[nodiscard]] bool is_new() const { return new_; }

  /// Takes room on the disk, so that a disk which has none, or cannot be written, is found out
  /// before the store is read for it.
  [[nodiscard]] Result<void> reserve(std::uint64_t offset, std::uint64_t bytes);
  [[nodiscard]] Result<void> write(std::uint64_t offset, ByteSpan bytes);
  [[nodiscard]] Result<void> read(std::uint64_t offset, std::span<std::byte> out) const;
  /// Gives the room of `count` units back. What cannot be punched stays, unused.
  void drop(Unit unit, Unit count = 1);

  [[nodiscard]] Result<void> seal();
  /// Makes a sealed one writable again, because something in it is damaged.
  [[nodiscard]] Result<void> unseal();

  /// A descriptor for clients. It cannot be written through, and marks the mirror as in use.
  [[nodiscard]] Result<UniqueFd> read_only_fd() const;

 private:
  Mirror() = default;
  [[nodiscard]] std::string part_name() const { return "mirror/" + id_.hex() + ".part"; }
  [[nodiscard]] std::string sealed_name() const { return "mirror/" + id_.hex(); }
  [[nodiscard]] Result<void> open_existing(std::uint64_t archive_bytes);
  [[nodiscard]] Result<void> rename(const std::string& from, const std::string& to);
  /// Whether the file that `name` names is this one.
  [[nodiscard]] bool is_at(const std::string& name) const;

  const CacheDirectory* directory_ = nullptr;
  ArchiveId id_;
  UniqueFd fd_;
  std::string name_;  ///< for messages
  bool sealed_ = false;
  bool new_ = true;
};

/// Whether somebody has a read_only_fd() of it, of an earlier server perhaps.
[[nodiscard]] bool is_mirror_in_use(const CacheDirectory& directory, const std::string& file);

/// Deletes the mirror of an archive that nobody has open. Returns the bytes that it held.
std::uint64_t remove_mirror(const CacheDirectory& directory, const std::string& file);

}  // namespace shardfs
