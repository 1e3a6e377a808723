#include "fs/dataset/tier.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace shardfs {
namespace {

using testing::HasSubstr;

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

FileSystem local(std::uint64_t free) { return {"ext4", false, false, 100 * free, free}; }
FileSystem shared() { return {"lustre", true, false, 0, 0}; }
FileSystem tmpfs(std::uint64_t free) { return {"tmpfs", false, true, free, free}; }

/// 100 GiB on Lustre, a disk of 200 GiB free, 64 GiB of memory.
CacheFacts usual() {
  CacheFacts facts;
  facts.archive_bytes = 100 * kGiB;
  facts.archive_on = shared();
  facts.disk = local(200 * kGiB);
  facts.memory = 64 * kGiB;
  return facts;
}

struct Case {
  std::string name;
  void (*change)(CacheFacts&);
  Tier tier;
  std::string reason;
};

class Choose : public testing::TestWithParam<Case> {};

TEST_P(Choose, GivesTierAndReason) {
  CacheFacts facts = usual();
  GetParam().change(facts);
  const TierChoice choice = choose(facts);
  EXPECT_EQ(name(choice.tier), name(GetParam().tier));
  EXPECT_THAT(choice.reason, HasSubstr(GetParam().reason));
}

INSTANTIATE_TEST_SUITE_P(
    Table, Choose,
    testing::ValuesIn(std::vector<Case>{
        {"DiskThatHoldsAll", [](CacheFacts&) {}, Tier::Disk, "all of 100.0 GiB fit on ext4"},
        {"DiskThatHoldsAPart", [](CacheFacts& f) { f.disk = local(40 * kGiB); }, Tier::Partial,
         "40.0 GiB of 100.0 GiB fit on ext4"},
        {"ReserveIsLeftToOthers",
         [](CacheFacts& f) {
           f.disk = local(105 * kGiB);
           f.reserve = 10 * kGiB;
         },
         Tier::Partial, "95.0 GiB of 100.0 GiB"},
        {"CacheSizeBounds", [](CacheFacts& f) { f.cache_limit = 30 * kGiB; }, Tier::Partial,
         "30.0 GiB of 100.0 GiB"},
        {"SmallArchiveGoesIntoMemory", [](CacheFacts& f) { f.archive_bytes = 8 * kGiB; },
         Tier::Memory, "8.0 GiB of 64.0 GiB of memory"},
        {"MoreThanTenGiBDoesNot",
         [](CacheFacts& f) {
           f.archive_bytes = 11 * kGiB;
           f.memory = 640 * kGiB;
         },
         Tier::Disk, "all of 11.0 GiB"},
        {"NorWhatMemoryCannotSpare",
         [](CacheFacts& f) {
           f.archive_bytes = 8 * kGiB;
           f.memory = 16 * kGiB;
         },
         Tier::Disk, "all of 8.0 GiB"},
        {"FullDisk", [](CacheFacts& f) { f.disk = local(0); }, Tier::Memory,
         "16.0 GiB of 64.0 GiB of memory available; no disk: 0.0 MiB of room on ext4"},
        {"MissingDirectory",
         [](CacheFacts& f) {
           f.disk.reset();
           f.why_no_disk = "/nowhere: cannot open: No such file or directory";
         },
         Tier::Memory, "no disk: /nowhere: cannot open"},
        {"NeitherDiskNorMemory",
         [](CacheFacts& f) {
           f.disk.reset();
           f.why_no_disk = "/cache: is on a shared file system (nfs)";
           f.memory = 200 << 20;
         },
         Tier::None, "neither memory nor disk to spare: /cache: is on a shared file system"},
        {"TmpfsIsChargedToTheJob",
         [](CacheFacts& f) {
           f.disk = tmpfs(300 * kGiB);
           f.archive_bytes = 30 * kGiB;
         },
         Tier::Partial, "16.0 GiB of 30.0 GiB fit on tmpfs, which is charged to the job's memory"},
        {"ArchiveOnALocalDisk", [](CacheFacts& f) { f.archive_on = local(kGiB); }, Tier::None,
         "local file system (ext4)"},
        {"ArchiveOnTheCachesOwnFileSystem", [](CacheFacts& f) { f.same_device = true; }, Tier::None,
         "the cache's own file system"},
        {"NoneAsAsked", [](CacheFacts& f) { f.asked = Tier::None; }, Tier::None, "as asked"},
        {"MemoryAsAsked", [](CacheFacts& f) { f.asked = Tier::Memory; }, Tier::Memory, "as asked"},
        {"DiskAsAskedForALocalArchive",
         [](CacheFacts& f) {
           f.asked = Tier::Disk;
           f.archive_on = local(kGiB);
         },
         Tier::Disk, "all of 100.0 GiB"},
        {"DiskAsAskedThatIsTooSmallIsPartial",
         [](CacheFacts& f) {
           f.asked = Tier::Disk;
           f.disk = local(kGiB);
         },
         Tier::Partial, "1.0 GiB of 100.0 GiB"},
        {"DiskAsAskedWithoutADisk",
         [](CacheFacts& f) {
           f.asked = Tier::Disk;
           f.disk.reset();
           f.why_no_disk = "/cache: belongs to user 0";
         },
         Tier::None, "there is no disk: /cache: belongs to user 0"},
    }),
    [](const auto& one) { return one.param.name; });

}  // namespace
}  // namespace shardfs
