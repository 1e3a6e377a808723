#include "fs/archive/squashfs/image.h"

#include <algorithm>
#include <cstddef>

#include <fmt/format.h>
#include <sys/stat.h>

namespace shardfs {

namespace {

/// Bytes of a name in a directory, at most: its length is a 16-bit number, less one.
constexpr std::size_t kMaxListedName = 65536;
/// Bytes of a symlink's text that mksquashfs still reads.
constexpr std::uint32_t kMaxLinkText = 65536;
/// Bytes of an attribute's value that Linux can hold.
constexpr std::uint32_t kMaxXattrValue = 65536;
/// Files may share attributes, so these may come to more than the tables hold. This is what is put
/// up with: far more than any system's labels, little enough to end soon.
constexpr std::uint64_t kXattrFloor = 64 * 1024 * 1024;
constexpr std::uint64_t kXattrFactor = 64;
/// The magic of images that are big-endian, as some before 4.0 were.
constexpr std::uint32_t kSwappedMagic = 0x68737173;

std::unexpected<Error> named(const ByteSource& source, const Error& error) {
  return fail(error.kind, source.name() + ": " + error.message);
}

Result<void> check_compressor(int number) {
  const char* name = sqfs_compression_name(number);
  if (name == nullptr)
    return fail(ErrorKind::Unsupported, fmt::format("squashfs with unknown compressor {}", number));
  if (sqfs_decompressor_get(number) == nullptr)
    return fail(ErrorKind::Unsupported,
                fmt::format("squashfs compressed with {}, which this build cannot decode", name));
  return {};
}

Result<void> check_kind(const squashfs_super_block& head) {
  if (head.s_magic == kSwappedMagic)
    return fail(ErrorKind::Unsupported, "big-endian squashfs; only version 4.0 is read");
  if (head.s_magic != SQUASHFS_MAGIC) return fail(ErrorKind::Unsupported, "not a squashfs image");
  if (head.s_major != SQUASHFS_MAJOR || head.s_minor != SQUASHFS_MINOR)
    return fail(ErrorKind::Unsupported, fmt::format("squashfs {}.{}; only version 4.0 is read",
                                                    head.s_major, head.s_minor));
  return check_compressor(head.compression);
}

Result<void> check_places(const squashfs_super_block& head, std::uint64_t size) {
  if (head.bytes_used > size)
    return corrupt(fmt::format("cut short: {} of {} bytes", size, head.bytes_used));
  if (head.block_log < 12 || head.block_log > SQUASHFS_FILE_MAX_LOG ||
      head.block_size != std::uint32_t{1} << head.block_log)
    return corrupt(fmt::format("impossible block size {}", head.block_size));
  const bool ascend = head.inode_table_start >= sizeof head &&
                      head.inode_table_start < head.directory_table_start &&
                      head.directory_table_start <= head.bytes_used;
  if (!ascend) return corrupt("impossible places of the tables");
  for (const std::uint64_t start : {head.fragment_table_start, head.lookup_table_start,
                                    head.id_table_start, head.xattr_id_table_start})
    if (start != kNoSquashfsTable && (start < head.inode_table_start || start > head.bytes_used))
      return corrupt("impossible place of a table");
  return {};
}

Result<squashfs_super_block> read_superblock(const ByteSource& source) {
  squashfs_super_block head{};
  const std::size_t size = std::min<std::uint64_t>(source.size(), sizeof head);
  const auto bytes = std::as_writable_bytes(std::span(&head, 1));
  SHARDFS_CHECK(source.read_at(0, bytes.first(size)));
  auto known = check_kind(head);
  if (known && size < sizeof head) known = corrupt("cut short");
  if (known) known = check_places(head, source.size());
  if (!known) return named(source, known.error());
  return head;
}

Result<void> take(std::uint64_t& room, std::uint64_t bytes, const char* what) {
  if (bytes > room) return corrupt(fmt::format("{} beyond what its tables can hold", what));
  room -= bytes;
  return {};
}

/// Bytes of an inode of this type, without what follows it: a list of blocks, a text, an index. 0:
/// there is no such type.
std::size_t inode_size(std::uint16_t type) {
  switch (type) {
    case SQUASHFS_DIR_TYPE:
      return sizeof(squashfs_dir_inode);
    case SQUASHFS_LDIR_TYPE:
      return sizeof(squashfs_ldir_inode);
    case SQUASHFS_REG_TYPE:
      return sizeof(squashfs_reg_inode);
    case SQUASHFS_LREG_TYPE:
      return sizeof(squashfs_lreg_inode);
    case SQUASHFS_SYMLINK_TYPE:
    case SQUASHFS_LSYMLINK_TYPE:
      return sizeof(squashfs_symlink_inode);
    case SQUASHFS_BLKDEV_TYPE:
    case SQUASHFS_CHRDEV_TYPE:
      return sizeof(squashfs_dev_inode);
    case SQUASHFS_LBLKDEV_TYPE:
    case SQUASHFS_LCHRDEV_TYPE:
      return sizeof(squashfs_ldev_inode);
    case SQUASHFS_FIFO_TYPE:
    case SQUASHFS_SOCKET_TYPE:
      return sizeof(squashfs_ipc_inode);
    case SQUASHFS_LFIFO_TYPE:
    case SQUASHFS_LSOCKET_TYPE:
      return sizeof(squashfs_lipc_inode);
    default:
      return 0;
  }
}

/// Where the first table behind the directories begins.
std::uint64_t directories_end(const squashfs_super_block& head) {
  std::uint64_t end = head.bytes_used;
  for (const std::uint64_t start : {head.fragment_table_start, head.lookup_table_start,
                                    head.id_table_start, head.xattr_id_table_start})
    if (start > head.directory_table_start) end = std::min(end, start);
  return end;
}

/// libsquashfuse 0.1.105 has the last two the wrong way round.
std::string_view xattr_prefix(std::uint16_t type) {
  switch (type) {
    case SQUASHFS_XATTR_USER:
      return "user.";
    case SQUASHFS_XATTR_TRUSTED:
      return "trusted.";
    default:
      return "security.";
  }
}

}  // namespace

SquashfsImage::SquashfsImage(const squashfs_super_block& superblock, SquashfsMetadata metadata)
    : superblock_(superblock),
      metadata_(std::move(metadata)),
      name_(kMaxListedName + 1),
      inode_room_(metadata_.decoded(metadata_.begin(), superblock.directory_table_start)),
      directory_room_(
          metadata_.decoded(superblock.directory_table_start, directories_end(superblock))),
      xattr_room_(kXattrFloor + kXattrFactor * inode_room_),
      fragment_room_(superblock.bytes_used) {}

SquashfsImage::~SquashfsImage() {
  if (opened_) sqfs_destroy(&library_);
  sqfs_table_destroy(&library_.xattr_table);  // sqfs_destroy() forgets it
}

Result<std::unique_ptr<SquashfsImage>> SquashfsImage::open(const ByteSource& source) {
  SHARDFS_TRY(const squashfs_super_block superblock, read_superblock(source));
  SHARDFS_TRY(SquashfsMetadata metadata, SquashfsMetadata::copy(source, superblock));
  std::unique_ptr<SquashfsImage> image(new SquashfsImage(superblock, std::move(metadata)));
  auto ready = image->check_tables();
  if (ready) ready = image->open_library();
  if (ready) ready = image->load_owners();
  if (!ready) return named(source, ready.error());
  return image;
}

/// Whether a table's index, which tells where its blocks lie, is inside the metadata.
Result<void> SquashfsImage::check_index(std::uint64_t start, std::uint64_t rows,
                                        std::uint64_t row_size) const {
  if (start < metadata_.begin() || start > metadata_.end() ||
      squashfs_index_size(rows, row_size) > metadata_.end() - start)
    return corrupt("a table that is larger than the image");
  return {};
}

Result<void> SquashfsImage::check_tables() const {
  const squashfs_super_block& head = superblock_;
  SHARDFS_CHECK(check_index(head.id_table_start, head.no_ids, sizeof(std::uint32_t)));
  if (head.fragments > 0)
    SHARDFS_CHECK(
        check_index(head.fragment_table_start, head.fragments, sizeof(squashfs_fragment_entry)));
  if (head.xattr_id_table_start == kNoSquashfsTable) return {};
  if (head.bytes_used - head.xattr_id_table_start < sizeof(squashfs_xattr_id_table))
    return corrupt("a table that is larger than the image");
  const auto table = metadata_.row_at<squashfs_xattr_id_table>(head.xattr_id_table_start);
  if (table.xattr_table_start < metadata_.begin() || table.xattr_table_start > metadata_.end())
    return corrupt("impossible place of a table");
  return check_index(head.xattr_id_table_start + sizeof table, table.xattr_ids,
                     sizeof(squashfs_xattr_id));
}

Result<void> SquashfsImage::open_library() {
  opened_ = sqfs_init(&library_, metadata_.fd(), 0) == SQFS_OK;
  if (!opened_) return corrupt("impossible tables");
  return {};
}

Result<void> SquashfsImage::load_owners() {
  for (std::uint16_t i = 0; i < superblock_.no_ids; ++i) {
    SHARDFS_CHECK(check_row(library_.id_table, superblock_.no_ids, i));
    sqfs_id_t id = 0;
    if (sqfs_id_get(&library_, i, &id) != SQFS_OK) return corrupt("damaged table of owners");
    owners_.push_back(id);
  }
  return {};
}

/// Whether the library may read so many bytes from here.
Result<void> SquashfsImage::check(const sqfs_md_cursor& cursor, std::uint64_t bytes) const {
  if (!metadata_.has(cursor, bytes)) return corrupt("a reference to what is not there");
  return {};
}

/// The same for a row of a table.
Result<void> SquashfsImage::check_row(const sqfs_table& table, std::uint64_t rows,
                                      std::uint64_t index) const {
  if (index >= rows) return corrupt("a reference to what is not there");
  const std::uint64_t last = (index + 1) * table.each - 1;  // in the same block as its first byte
  return check({.block = static_cast<sqfs_off_t>(table.blocks[last / SQUASHFS_METADATA_SIZE]),
                .offset = last % SQUASHFS_METADATA_SIZE},
               1);
}

/// The same for an inode, and the text of a symlink behind it.
Result<void> SquashfsImage::check_inode(const sqfs_md_cursor& cursor) {
  squashfs_symlink_inode inode{};
  SHARDFS_CHECK(check(cursor, sizeof(squashfs_base_inode)));
  sqfs_md_cursor at = cursor;
  if (sqfs_md_read(&library_, &at, &inode, sizeof(squashfs_base_inode)) != SQFS_OK)
    return corrupt("damaged inode");
  const std::size_t size = inode_size(inode.inode_type);
  if (size == 0) return corrupt(fmt::format("an inode of unknown type {}", inode.inode_type));
  SHARDFS_CHECK(check(cursor, size));
  if (S_ISLNK(sqfs_mode(inode.inode_type))) {
    at = cursor;
    if (sqfs_md_read(&library_, &at, &inode, sizeof inode) != SQFS_OK)
      return corrupt("damaged inode");
    const bool has_xattrs = inode.inode_type == SQUASHFS_LSYMLINK_TYPE;
    if (inode.symlink_size > kMaxLinkText) return corrupt("a symlink of impossible length");
    return check(cursor, size + inode.symlink_size + (has_xattrs ? sizeof(sqfs_xattr_idx) : 0));
  }
  return {};
}

Result<sqfs_inode> SquashfsImage::inode(sqfs_inode_id id) {
  sqfs_md_cursor cursor{};
  sqfs_md_cursor_inode(&cursor, id, static_cast<sqfs_off_t>(superblock_.inode_table_start));
  if (static_cast<std::uint64_t>(cursor.block) >= superblock_.directory_table_start)
    return corrupt("a reference to what is not there");
  SHARDFS_CHECK(check_inode(cursor));
  sqfs_inode inode{};
  if (sqfs_inode_get(&library_, &inode, id) != SQFS_OK) return corrupt("damaged inode");
  return inode;
}

Result<std::uint32_t> SquashfsImage::owner(std::uint16_t index) const {
  if (index >= owners_.size()) return corrupt("an owner that is not there");
  return owners_[index];
}

Result<std::string> SquashfsImage::link_text(sqfs_inode& inode) {
  SHARDFS_CHECK(take(inode_room_, inode.xtra.symlink_size, "symlinks"));
  std::size_t size = inode.xtra.symlink_size + 1;  // with the NUL that is put behind it
  std::string text(size, '\0');
  if (sqfs_readlink(&library_, &inode, text.data(), &size) != SQFS_OK)
    return corrupt("damaged symlink");
  text.pop_back();
  return text;
}

Result<sqfs_dir> SquashfsImage::open_directory(sqfs_inode& inode) {
  sqfs_dir directory{};
  if (sqfs_dir_open(&library_, &inode, &directory, 0) != SQFS_OK)
    return corrupt("damaged directory");
  const auto size = static_cast<std::uint64_t>(directory.total);
  SHARDFS_CHECK(take(directory_room_, size, "directories"));
  if (size > 0) SHARDFS_CHECK(check(directory.cur, size));
  return directory;
}

Result<std::optional<SquashfsName>> SquashfsImage::next_name(sqfs_dir& directory) {
  sqfs_dir_entry entry{};
  sqfs_dentry_init(&entry, name_.data());
  sqfs_err error = SQFS_OK;
  const bool there = sqfs_dir_next(&library_, &directory, &entry, &error);
  if (error != SQFS_OK || directory.offset > directory.total) return corrupt("damaged directory");
  if (!there) return std::nullopt;
  return SquashfsName{{name_.data(), entry.name_size}, entry.inode};
}

/// A block of data by its place and the number that goes with it.
Result<SquashfsBlock> SquashfsImage::block(std::uint64_t place, std::uint32_t header) const {
  SquashfsBlock block{.place = place};
  sqfs_data_header(header, &block.compressed, &block.size);
  if (header == 0) return block;
  const std::uint64_t end = superblock_.bytes_used;
  if (block.size == 0 || block.size > superblock_.block_size || place < sizeof superblock_ ||
      place > end || block.size > end - place)
    return corrupt(fmt::format("a block of {} bytes at {}, which cannot be", block.size, place));
  return block;
}

Result<sqfs_blocklist> SquashfsImage::block_list(sqfs_inode& inode) {
  sqfs_blocklist list{};
  sqfs_blocklist_init(&library_, &inode, &list);
  const std::uint64_t size = list.remain * sizeof(sqfs_blocklist_entry);
  SHARDFS_CHECK(take(inode_room_, size, "a list of blocks"));
  if (size > 0) SHARDFS_CHECK(check(list.cur, size));
  return list;
}

Result<SquashfsBlock> SquashfsImage::next_block(sqfs_blocklist& list) const {
  if (sqfs_blocklist_next(&list) != SQFS_OK) return corrupt("damaged list of blocks");
  return block(list.block, list.header);
}

Result<SquashfsBlock> SquashfsImage::fragment(std::uint32_t index) {
  SHARDFS_CHECK(check_row(library_.frag_table, superblock_.fragments, index));
  squashfs_fragment_entry entry{};
  if (sqfs_frag_entry(&library_, &entry, index) != SQFS_OK)
    return corrupt("damaged table of fragments");
  SHARDFS_TRY(const SquashfsBlock found, block(entry.start_block, entry.size));
  if (found.is_hole()) return corrupt("a fragment block without bytes");
  // Each lies somewhere else, so together they are no more than the image.
  SHARDFS_CHECK(take(fragment_room_, found.size, "fragments"));
  return found;
}

Result<SquashfsXattrs> SquashfsImage::xattrs(sqfs_inode& inode) {
  SquashfsXattrs all;
  if (inode.xattr == SQUASHFS_INVALID_XATTR || library_.xattr_info.xattr_ids == 0) return all;
  SHARDFS_CHECK(check_row(library_.xattr_table, library_.xattr_info.xattr_ids, inode.xattr));
  sqfs_xattr list{};
  if (sqfs_xattr_open(&library_, &inode, &list) != SQFS_OK)
    return corrupt("damaged table of extended attributes");
  while (list.remain > 0) {
    SHARDFS_TRY(auto xattr, next_xattr(list));
    all.push_back(std::move(xattr));
  }
  std::ranges::sort(all, {}, &std::pair<std::string, Bytes>::first);
  return all;
}

Result<std::pair<std::string, Bytes>> SquashfsImage::next_xattr(sqfs_xattr& list) {
  constexpr auto kDamaged = "damaged extended attribute";
  SHARDFS_CHECK(check(list.c_next, sizeof list.entry));
  if (sqfs_xattr_read(&list) != SQFS_OK) return corrupt(kDamaged);
  std::string name(list.entry.size, '\0');
  SHARDFS_CHECK(check(list.c_name, name.size() + sizeof list.val));
  if (sqfs_xattr_name(&list, name.data(), false) != SQFS_OK) return corrupt(kDamaged);
  name.insert(0, xattr_prefix(list.type));
  if (list.ool) SHARDFS_CHECK(check_reference(list));
  std::size_t size = 0;
  if (sqfs_xattr_value_size(&list, &size) != SQFS_OK || size > kMaxXattrValue)
    return corrupt(kDamaged);
  if (size > 0) SHARDFS_CHECK(check(list.c_val, size));
  SHARDFS_CHECK(take(xattr_room_, sizeof list.entry + name.size() + size, "extended attributes"));
  Bytes value(size);
  if (sqfs_xattr_value(&list, value.data()) != SQFS_OK) return corrupt(kDamaged);
  return std::pair{std::move(name), std::move(value)};
}

/// In place of a value that is kept elsewhere there is a reference to it, which
/// sqfs_xattr_value_size() follows.
Result<void> SquashfsImage::check_reference(const sqfs_xattr& list) {
  std::uint64_t id = 0;
  SHARDFS_CHECK(check(list.c_vsize, sizeof list.val + sizeof id));
  sqfs_md_cursor cursor = list.c_vsize;
  if (sqfs_md_read(&library_, &cursor, nullptr, sizeof list.val) != SQFS_OK ||
      sqfs_md_read(&library_, &cursor, &id, sizeof id) != SQFS_OK)
    return corrupt("damaged extended attribute");
  sqfs_md_cursor_inode(&cursor, id, static_cast<sqfs_off_t>(library_.xattr_info.xattr_table_start));
  return check(cursor, sizeof list.val);
}

}  // namespace shardfs
