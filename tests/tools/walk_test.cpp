#include "tools/mkshard/walk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fs/tree/import.h"
#include "tools/mkshard/exclude.h"

namespace shardfs {
namespace {

using testing::ElementsAre;

TEST(NormalizedPath, DropsWhatSaysNothing) {
  EXPECT_EQ(normalized_path("a/b"), "a/b");
  EXPECT_EQ(normalized_path("/./a//./b/"), "a/b");
  EXPECT_EQ(normalized_path("./"), "");
  EXPECT_EQ(normalized_path(".../..a/b.."), ".../..a/b..");
}

TEST(NormalizedPath, RefusesToGoUp) {
  for (const char* path : {"..", "../a", "a/..", "a/../b", "/.."}) {
    EXPECT_FALSE(normalized_path(path)) << path;
  }
}

TEST(Selection, SortsAsAWalkAndDropsWhatIsCovered) {
  const auto selection =
      Selection::create({"b/", "a.txt", "a/y", "./a/x/1", "a/x", "a.txt", "b/c/d", "a-b"});
  ASSERT_TRUE(selection);
  EXPECT_THAT(selection->paths(), ElementsAre("a/x", "a/y", "a-b", "a.txt", "b"));
}

TEST(Selection, RefusesPathsOutside) {
  EXPECT_FALSE(Selection::create({"/etc/passwd"}));
  EXPECT_FALSE(Selection::create({"a/../../b"}));
}

TEST(Excludes, FitTheWholePathOrWhatFollowsASlash) {
  const Excludes excludes({"*.tmp", "cache", "a/b*"});
  EXPECT_TRUE(excludes.match("x.tmp"));
  EXPECT_TRUE(excludes.match("deep/down/x.tmp"));
  EXPECT_TRUE(excludes.match("cache/file"));
  EXPECT_TRUE(excludes.match("x/cache"));
  EXPECT_TRUE(excludes.match("x/a/bcd/e"));
  EXPECT_FALSE(excludes.match("x.tmp2"));
  EXPECT_FALSE(excludes.match("mycache"));
  EXPECT_FALSE(excludes.match("a/c"));
}

TEST(KeptXattr, LeavesTheFileSystemsOwnBehind) {
  for (const char* name :
       {"user.a", "trusted.b", "security.capability", "system.posix_acl_access"}) {
    EXPECT_TRUE(is_kept_xattr(name)) << name;
  }
  for (const char* name : {"lustre.lov", "trusted.lov", "system.nfs4_acl", "btrfs.compression"}) {
    EXPECT_FALSE(is_kept_xattr(name)) << name;
  }
}

}  // namespace
}  // namespace shardfs
