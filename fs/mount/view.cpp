#include "fs/mount/view.h"

#include <algorithm>
#include <bit>
#include <utility>

#include <sys/sysmacros.h>
#include <unistd.h>

namespace shardfs {
namespace {

constexpr std::uint64_t kRootInode = 1;

// What buffered readers ask for at a time. Many libraries allocate this much for every file they
// open, so that a small file names no more than it needs; 128 KiB is the kernel's readahead.
blksize_t read_size(std::uint64_t file_size) {
  return static_cast<blksize_t>(
      std::bit_ceil(std::clamp<std::uint64_t>(file_size, 4096, 128 * 1024)));
}

}  // namespace

InodeNumbers::InodeNumbers(std::shared_ptr<const StableNumbers> stable, std::uint64_t entries)
    : stable_(std::move(stable)), inodes_(entries) {
  const auto note = [&](const std::vector<Entry>& entries_of, std::uint64_t first) {
    for (std::size_t number = 0; number < entries_of.size(); ++number)
      if (entries_of[number] < inodes_.size()) inodes_[entries_of[number]] = first + number;
  };
  note(stable_->members, kMembers);
  note(stable_->directories, kDirectories);
}

Entry InodeNumbers::entry(std::uint64_t inode) const {
  const bool is_directory = inode >= kDirectories;
  const std::vector<Entry>& entries = is_directory ? stable_->directories : stable_->members;
  const std::uint64_t number = inode - (is_directory ? kDirectories : kMembers);
  return number < entries.size() ? entries[number] : StableNumbers::kNoEntry;
}

View::View(Entry root, const Ownership& ownership, std::shared_ptr<const InodeNumbers> numbers)
    : root_(root),
      ownership_(ownership),
      uid_(ownership.uid.value_or(::getuid())),
      gid_(ownership.gid.value_or(::getgid())),
      numbers_(std::move(numbers)) {}

Entry View::entry(std::uint64_t inode) const {
  if (inode == kRootInode) return root_;
  return numbers_ ? numbers_->entry(inode) : static_cast<Entry>(inode - 1);
}

std::uint64_t View::inode(Entry entry) const {
  if (entry == root_) return kRootInode;
  return numbers_ ? numbers_->inode(entry) : std::uint64_t{entry} + 1;
}

mode_t View::mode(mode_t archived) const {
  if (S_ISLNK(archived)) return archived;
  mode_t mode = archived;
  if (!ownership_.as_archived) {
    const bool searchable = S_ISDIR(mode) || (mode & 0111) != 0;
    mode |= searchable ? 0500 : 0400;
  }
  return mode & ~(ownership_.umask & 0777);
}

struct stat View::stat(const Attributes& attributes) const {
  struct stat shown = {};
  shown.st_ino = inode(attributes.inode);
  shown.st_mode = mode(attributes.mode);
  shown.st_nlink = attributes.links;
  const bool archived = ownership_.as_archived;
  shown.st_uid = archived && !ownership_.uid ? attributes.uid : uid_;
  shown.st_gid = archived && !ownership_.gid ? attributes.gid : gid_;
  shown.st_rdev = ::makedev(attributes.device_major, attributes.device_minor);
  shown.st_size = static_cast<off_t>(attributes.size);
  shown.st_blocks = static_cast<blkcnt_t>((attributes.stored + 511) / 512);
  shown.st_blksize = read_size(attributes.size);
  shown.st_mtim = {.tv_sec = attributes.mtime.seconds, .tv_nsec = attributes.mtime.nanoseconds};
  shown.st_atim = shown.st_ctim = shown.st_mtim;
  return shown;
}

}  // namespace shardfs
