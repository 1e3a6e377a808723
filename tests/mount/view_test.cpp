#include "fs/mount/view.h"

#include <memory>
#include <set>

#include <gtest/gtest.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace shardfs {
namespace {

Attributes file(std::uint32_t mode) {
  Attributes attributes;
  attributes.inode = 41;
  attributes.mode = mode;
  attributes.uid = 1000;
  attributes.gid = 2000;
  attributes.size = 20'000;
  attributes.stored = 1'025;
  attributes.mtime = {-5, 7};
  return attributes;
}

TEST(View, InodesAreEntriesPlusOneAndTheRootIsOne) {
  const View whole(kRoot, {});
  EXPECT_EQ(whole.inode(kRoot), 1U);
  EXPECT_EQ(whole.inode(41), 42U);
  EXPECT_EQ(whole.entry(1), kRoot);
  EXPECT_EQ(whole.entry(42), 41U);
}

TEST(View, ADirectoryShownAsRootIsInodeOne) {
  const View part(7, {});
  EXPECT_EQ(part.inode(7), 1U);
  EXPECT_EQ(part.entry(1), 7U);
  EXPECT_EQ(part.entry(part.inode(9)), 9U);
}

TEST(View, NumbersThatStayAreGivenBothWays) {
  const auto stable = std::make_shared<StableNumbers>();
  stable->members = {3, StableNumbers::kNoEntry, 2};
  stable->directories = {kRoot, 1};
  const View view(kRoot, {}, std::make_shared<const InodeNumbers>(stable, 4));
  EXPECT_EQ(view.inode(kRoot), 1U);
  std::set<std::uint64_t> inodes;
  for (Entry entry = 0; entry < 4; ++entry) {
    EXPECT_EQ(view.entry(view.inode(entry)), entry);
    inodes.insert(view.inode(entry));
  }
  EXPECT_EQ(inodes.size(), 4U);
  EXPECT_EQ(view.entry(view.inode(3) + 1), StableNumbers::kNoEntry) << "replaced";
  for (const std::uint64_t unknown : {0UL, 100UL, ~0UL, 1UL << 33 | 2})
    EXPECT_EQ(view.entry(unknown), StableNumbers::kNoEntry);
}

TEST(View, MineIsReadableAndMine) {
  const View mine(kRoot, {});
  EXPECT_EQ(mine.stat(file(S_IFREG | 0040)).st_mode, S_IFREG | 0440U);
  EXPECT_EQ(mine.stat(file(S_IFREG | 0011)).st_mode, S_IFREG | 0511U);
  EXPECT_EQ(mine.stat(file(S_IFDIR | 0)).st_mode, S_IFDIR | 0500U);
  EXPECT_EQ(mine.stat(file(S_IFLNK | 0777)).st_mode, S_IFLNK | 0777U);
  EXPECT_EQ(mine.stat(file(S_IFREG | 06644)).st_mode, S_IFREG | 06644U);
  EXPECT_EQ(mine.stat(file(S_IFREG)).st_uid, ::getuid());
  EXPECT_EQ(mine.stat(file(S_IFREG)).st_gid, ::getgid());
}

TEST(View, AsArchivedIsAsArchived) {
  const View archived(kRoot, {.as_archived = true});
  const struct stat shown = archived.stat(file(S_IFREG | 0));
  EXPECT_EQ(shown.st_mode, static_cast<mode_t>(S_IFREG));
  EXPECT_EQ(shown.st_uid, 1000U);
  EXPECT_EQ(shown.st_gid, 2000U);
}

TEST(View, NumbersTakePrecedence) {
  const View archived(kRoot, {.as_archived = true, .uid = 3, .gid = {}, .umask = 0});
  EXPECT_EQ(archived.stat(file(S_IFREG)).st_uid, 3U);
  EXPECT_EQ(archived.stat(file(S_IFREG)).st_gid, 2000U);
}

TEST(View, UmaskTakesPermissionBitsOnly) {
  const View masked(kRoot, {.as_archived = true, .uid = {}, .gid = {}, .umask = 0777});
  EXPECT_EQ(masked.stat(file(S_IFREG | 04755)).st_mode, S_IFREG | 04000U);
  EXPECT_EQ(masked.stat(file(S_IFLNK | 0777)).st_mode, S_IFLNK | 0777U);
}

TEST(View, SizesAndTimes) {
  const struct stat shown = View(kRoot, {}).stat(file(S_IFREG));
  EXPECT_EQ(shown.st_size, 20'000);
  EXPECT_EQ(shown.st_blocks, 3);
  EXPECT_EQ(shown.st_blksize, 32 * 1024);
  EXPECT_EQ(shown.st_mtim.tv_sec, -5);
  EXPECT_EQ(shown.st_mtim.tv_nsec, 7);
  EXPECT_EQ(shown.st_ctim.tv_sec, -5);
  EXPECT_EQ(shown.st_atim.tv_nsec, 7);
}

TEST(View, ReadSizeIsBounded) {
  Attributes attributes = file(S_IFREG);
  attributes.size = 0;
  EXPECT_EQ(View(kRoot, {}).stat(attributes).st_blksize, 4096);
  attributes.size = ~std::uint64_t{0};
  EXPECT_EQ(View(kRoot, {}).stat(attributes).st_blksize, 128 * 1024);
}

TEST(View, LargeMinorNumbersOfDevices) {
  Attributes device = file(S_IFBLK);
  device.device_major = 259;
  device.device_minor = 70'000;
  EXPECT_EQ(View(kRoot, {}).stat(device).st_rdev, ::makedev(259, 70'000));
}

}  // namespace
}  // namespace shardfs
