// The metadata of a squashfs image, read through libsquashfuse.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fs/archive/squashfs/metadata.h"
#include "fs/base/byte_source.h"
#include "fs/base/bytes.h"
#include "fs/base/result.h"

namespace shardfs {

/// Where a block of data lies in the image, bytes. One of size 0 is a hole.
struct SquashfsBlock {
  std::uint64_t place = 0;
  std::uint32_t size = 0;
  bool compressed = false;
  [[nodiscard]] bool is_hole() const { return size == 0; }
};

/// A name in a directory.
struct SquashfsName {
  std::string_view name;  ///< up to 65,536 bytes of any value; gone with the next name
  sqfs_inode_id inode = 0;
};

using SquashfsXattrs = std::vector<std::pair<std::string, Bytes>>;

/// The library trusts what it reads: where an image lies, it leaves its buffers. So before it
/// follows a reference or reads what it was told the size of, it is checked here that all of that
/// is there. And what a small image can make of itself is bounded: directories, block lists and
/// links take together no more than their tables hold, as in an honest image each is there once.
///
/// All errors are Corrupt, and without the image's name but for open(). One thread at a time.
class SquashfsImage {
 public:
  /// Copies the metadata of `source`. Unsupported: not a squashfs, another version than 4.0, or a
  /// compressor that the library does not know. Corrupt: damaged or cut short.
  [[nodiscard]] static Result<std::unique_ptr<SquashfsImage>> open(const ByteSource& source);
  ~SquashfsImage();
  SquashfsImage(const SquashfsImage&) = delete;
  SquashfsImage& operator=(const SquashfsImage&) = delete;

  [[nodiscard]] const squashfs_super_block& superblock() const { return superblock_; }

  [[nodiscard]] Result<sqfs_inode> inode(sqfs_inode_id id);
  /// User or group number `index` of the image's table.
  [[nodiscard]] Result<std::uint32_t> owner(std::uint16_t index) const;
  /// Sorted by name.
  [[nodiscard]] Result<SquashfsXattrs> xattrs(sqfs_inode& inode);
  /// REQUIRES: a symlink's inode.
  [[nodiscard]] Result<std::string> link_text(sqfs_inode& inode);

  /// REQUIRES: a directory's inode.
  [[nodiscard]] Result<sqfs_dir> open_directory(sqfs_inode& inode);
  /// The next name of a directory; none at its end.
  [[nodiscard]] Result<std::optional<SquashfsName>> next_name(sqfs_dir& directory);

  /// The blocks of a file, for next_block(); `remain` says how many are to come.
  /// REQUIRES: a regular file's inode.
  [[nodiscard]] Result<sqfs_blocklist> block_list(sqfs_inode& inode);
  [[nodiscard]] Result<SquashfsBlock> next_block(sqfs_blocklist& list) const;
  /// Fragment block `index`; never a hole. To be asked for once each.
  [[nodiscard]] Result<SquashfsBlock> fragment(std::uint32_t index);

 private:
  SquashfsImage(const squashfs_super_block& superblock, SquashfsMetadata metadata);

  [[nodiscard]] Result<void> check_index(std::uint64_t start, std::uint64_t rows,
                                         std::uint64_t row_size) const;
  [[nodiscard]] Result<void> check_tables() const;
  [[nodiscard]] Result<void> open_library();
  [[nodiscard]] Result<void> load_owners();

  [[nodiscard]] Result<void> check(const sqfs_md_cursor& cursor, std::uint64_t bytes) const;
  [[nodiscard]] Result<void> check_row(const sqfs_table& table, std::uint64_t rows,
                                       std::uint64_t index) const;
  [[nodiscard]] Result<void> check_inode(const sqfs_md_cursor& cursor);
  [[nodiscard]] Result<void> check_reference(const sqfs_xattr& list);
  [[nodiscard]] Result<SquashfsBlock> block(std::uint64_t place, std::uint32_t header) const;
  [[nodiscard]] Result<std::pair<std::string, Bytes>> next_xattr(sqfs_xattr& list);

  squashfs_super_block superblock_;
  SquashfsMetadata metadata_;
  sqfs library_{};
  bool opened_ = false;
  std::vector<std::uint32_t> owners_;
  std::vector<char> name_;

  // Bytes that may still be taken.
  std::uint64_t inode_room_;  ///< for block lists and texts of links
  std::uint64_t directory_room_;
  std::uint64_t xattr_room_;
  std::uint64_t fragment_room_;
};

}  // namespace shardfs
