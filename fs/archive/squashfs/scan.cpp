#include "fs/archive/squashfs/scan.h"

#include <algorithm>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <sys/stat.h>

#include "fs/archive/squashfs/image.h"
#include "fs/tree/names.h"

namespace shardfs {

namespace {

/// Neighbouring blocks that are one to the layout: holes, or stored bytes that follow one another.
class Run {
 public:
  explicit Run(LayoutBuilder& layout) : layout_(layout) {}

  void add(Coder coder, std::uint64_t offset, std::uint64_t packed, std::uint64_t decoded) {
    const bool goes_on = decoded_ > 0 && coder == coder_ &&
                         (coder.codec == Codec::Zero ||
                          (coder.codec == Codec::Stored && offset == offset_ + packed_));
    if (!goes_on) {
      flush();
      coder_ = coder;
      offset_ = offset;
    }
    packed_ += packed;
    decoded_ += decoded;
  }

  void flush() {
    if (decoded_ > 0) layout_.add(coder_, offset_, packed_, decoded_);
    packed_ = decoded_ = 0;
  }

 private:
  LayoutBuilder& layout_;
  Coder coder_;
  std::uint64_t offset_ = 0, packed_ = 0, decoded_ = 0;
};

void add_hole(Member& member, std::uint64_t offset, std::uint64_t length) {
  if (!member.holes.empty() && member.holes.back().offset + member.holes.back().length == offset)
    member.holes.back().length += length;
  else
    member.holes.push_back({offset, length});
}

/// A walk over an image, directory by directory, each where it stands in the one above: so
/// mksquashfs writes the data, too. All errors are Corrupt, without a name.
class Scan {
 public:
  Scan(SquashfsImage& image, LayoutBuilder& layout) : image_(image), layout_(layout) {}

  [[nodiscard]] Result<void> run();
  /// What run() is at, for messages; "" outside the tree.
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] Access access() const { return compressed_ ? Access::Frame : Access::Random; }

 private:
  struct OpenDirectory {
    sqfs_dir directory;
    std::size_t path_size;  ///< of its own path
  };

  [[nodiscard]] Result<void> add_fragments();
  [[nodiscard]] Result<void> enter(const SquashfsName& name);
  [[nodiscard]] Result<void> add_inode(sqfs_inode& inode);
  [[nodiscard]] Result<Member> member(sqfs_inode& inode);
  [[nodiscard]] Result<void> add_directory(sqfs_inode& inode, const Member& member);
  [[nodiscard]] Result<void> add_file(sqfs_inode& inode, Member member);
  [[nodiscard]] Result<void> add_blocks(sqfs_inode& inode, Member& member);
  [[nodiscard]] Result<void> add_tail(const sqfs_inode& inode);
  [[nodiscard]] Coder coder(const SquashfsBlock& block);

  SquashfsImage& image_;
  LayoutBuilder& layout_;
  std::string path_;
  std::vector<OpenDirectory> open_;  ///< from the root down
  bool compressed_ = false;          ///< some block is
  /// Where each fragment block stands in the logical stream, and where they end. They follow one
  /// another there.
  std::vector<std::uint64_t> fragments_;
  /// By inode number: the first paths of files with several names, and the directories met.
  std::unordered_map<sqfs_inode_num, std::string> first_paths_;
  std::unordered_set<sqfs_inode_num> directories_;
};

Result<void> Scan::run() {
  SHARDFS_CHECK(add_fragments());
  SHARDFS_TRY(sqfs_inode root, image_.inode(image_.superblock().root_inode));
  if (!S_ISDIR(sqfs_mode(root.base.inode_type))) return corrupt("the root is no directory");
  SHARDFS_CHECK(add_inode(root));
  while (!open_.empty()) {
    path_.resize(open_.back().path_size);
    SHARDFS_TRY(const auto name, image_.next_name(open_.back().directory));
    if (name)
      SHARDFS_CHECK(enter(*name));
    else
      open_.pop_back();
  }
  return {};
}

Coder Scan::coder(const SquashfsBlock& block) {
  if (block.is_hole()) return {Codec::Zero};
  if (!block.compressed) return {Codec::Stored};
  compressed_ = true;
  return {Codec::Squashfs, static_cast<std::uint8_t>(image_.superblock().compression)};
}

/// The fragment blocks come first: a file has to be contiguous in the stream, and a tail is the
/// image of a part of one of them. What a compressed one gives is not known; a block at most.
Result<void> Scan::add_fragments() {
  const squashfs_super_block& head = image_.superblock();
  for (std::uint32_t i = 0; i < head.fragments; ++i) {
    SHARDFS_TRY(const SquashfsBlock block, image_.fragment(i));
    const std::uint32_t decoded = block.compressed ? head.block_size : block.size;
    fragments_.push_back(layout_.add(coder(block), block.place, block.size, decoded));
  }
  fragments_.push_back(layout_.end());
  return {};
}

Result<void> Scan::enter(const SquashfsName& name) {
  if (!is_valid_name(name.name)) return corrupt("a name in it that cannot be");
  if (!path_.empty()) path_ += '/';
  path_ += name.name;
  SHARDFS_TRY(sqfs_inode inode, image_.inode(name.inode));
  if (inode.nlink <= 1 || S_ISDIR(sqfs_mode(inode.base.inode_type))) return add_inode(inode);
  const auto [first, is_new] = first_paths_.try_emplace(inode.base.inode_number, path_);
  if (is_new) return add_inode(inode);
  Member link;
  link.path = path_;
  link.hard_link = true;
  link.link = first->second;
  layout_.add_member(link);
  return {};
}

Result<Member> Scan::member(sqfs_inode& inode) {
  Member m;
  m.path = path_;
  m.mode = (inode.base.mode & 07777) | sqfs_mode(inode.base.inode_type);
  SHARDFS_TRY(m.uid, image_.owner(inode.base.uid));
  SHARDFS_TRY(m.gid, image_.owner(inode.base.guid));
  m.mtime.seconds = inode.base.mtime;
  SHARDFS_TRY(m.xattrs, image_.xattrs(inode));
  if (m.is_regular()) m.size = inode.xtra.reg.file_size;
  if (m.is_symlink()) {
    SHARDFS_TRY(m.link, image_.link_text(inode));
  }
  if (S_ISCHR(m.mode) || S_ISBLK(m.mode)) {
    m.device_major = static_cast<std::uint32_t>(inode.xtra.dev.major);
    m.device_minor = static_cast<std::uint32_t>(inode.xtra.dev.minor);
  }
  return m;
}

Result<void> Scan::add_inode(sqfs_inode& inode) {
  SHARDFS_TRY(Member m, member(inode));
  if (m.is_directory()) return add_directory(inode, m);
  if (m.is_regular()) return add_file(inode, std::move(m));
  layout_.add_member(m);
  return {};
}

Result<void> Scan::add_directory(sqfs_inode& inode, const Member& member) {
  if (!directories_.insert(inode.base.inode_number).second)
    return corrupt("a directory that is in two places");
  layout_.add_member(member);
  if (path_.size() > kMaxPath) return {};  // Left out, and all that is in it.
  SHARDFS_TRY(const sqfs_dir directory, image_.open_directory(inode));
  open_.push_back({directory, path_.size()});
  return {};
}

Result<void> Scan::add_file(sqfs_inode& inode, Member member) {
  layout_.begin_file();
  const std::uint64_t position = layout_.end();
  SHARDFS_CHECK(add_blocks(inode, member));
  SHARDFS_CHECK(add_tail(inode));
  layout_.add_file(member, position);
  return {};
}

Result<void> Scan::add_blocks(sqfs_inode& inode, Member& member) {
  const std::uint64_t block_size = image_.superblock().block_size;
  SHARDFS_TRY(sqfs_blocklist list, image_.block_list(inode));
  Run run(layout_);
  for (std::uint64_t at = 0; list.remain > 0; at += block_size) {
    const std::uint64_t decoded = std::min(block_size, member.size - at);
    SHARDFS_TRY(const SquashfsBlock block, image_.next_block(list));
    if (!block.is_hole() && !block.compressed && block.size != decoded)
      return corrupt(fmt::format("a block of {} bytes in place of {}", block.size, decoded));
    if (block.is_hole()) add_hole(member, at, decoded);
    run.add(coder(block), block.is_hole() ? 0 : block.place, block.size, decoded);
  }
  run.flush();
  return {};
}

Result<void> Scan::add_tail(const sqfs_inode& inode) {
  const auto& file = inode.xtra.reg;
  const std::uint64_t size = file.file_size % image_.superblock().block_size;
  if (file.frag_idx == SQUASHFS_INVALID_FRAG || size == 0) return {};
  if (file.frag_idx >= image_.superblock().fragments)
    return corrupt("a fragment that is not there");
  const std::uint64_t begin = fragments_[file.frag_idx];
  const std::uint64_t room = fragments_[file.frag_idx + 1] - begin;
  if (file.frag_off > room || size > room - file.frag_off)
    return corrupt(fmt::format("a tail of {} bytes that leaves its fragment block", size));
  layout_.add({Codec::Slice}, begin + file.frag_off, size, size);
  return {};
}

}  // namespace

Result<ForeignFacts> scan_squashfs(const ByteSource& source, LayoutBuilder& layout) {
  SHARDFS_TRY(const auto image, SquashfsImage::open(source));
  Scan scan(*image, layout);
  if (auto done = scan.run(); !done) {
    const std::string where = scan.path().empty() ? "" : scan.path() + ": ";
    return fail(done.error().kind, source.name() + ": " + where + done.error().message);
  }
  return ForeignFacts{.format = "squashfs", .access = scan.access()};
}

}  // namespace shardfs
