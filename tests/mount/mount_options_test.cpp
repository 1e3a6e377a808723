#include "tools/shardfs/mount_options.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace shardfs {
namespace {

MountOptions parsed(const std::vector<std::string>& lists, bool from_mount8 = false) {
  MountOptions options;
  const auto done = parse_mount_options(lists, from_mount8, options);
  EXPECT_TRUE(done) << done.error().message;
  return options;
}

std::string refusal(const std::string& list, bool from_mount8 = false) {
  MountOptions options;
  const auto done = parse_mount_options({list}, from_mount8, options);
  EXPECT_FALSE(done) << list;
  if (done) return "";
  EXPECT_EQ(done.error().kind, ErrorKind::Invalid);
  return done.error().message;
}

TEST(MountOptions, AreReadFromAllLists) {
  const MountOptions options = parsed(
      {"ro,nosuid,nodev,allow_other", "noexec,auto_unmount,uid=5,gid=6,umask=027,owner=archive"});
  EXPECT_TRUE(options.allow_other && options.noexec && options.auto_unmount);
  EXPECT_EQ(options.ownership.uid, 5U);
  EXPECT_EQ(options.ownership.gid, 6U);
  EXPECT_EQ(options.ownership.umask, 027U);
  EXPECT_TRUE(options.ownership.as_archived);
}

TEST(MountOptions, LaterOnesWin) {
  EXPECT_EQ(parsed({"uid=5,uid=7"}).ownership.uid, 7U);
  EXPECT_FALSE(parsed({"owner=archive", "owner=me"}).ownership.as_archived);
}

TEST(MountOptions, SubdirLosesSlashesAroundIt) {
  EXPECT_EQ(parsed({"subdir=//a/b//"}).subdir, "a/b");
  EXPECT_EQ(parsed({"subdir=/"}).subdir, "");
}

TEST(MountOptions, ABackslashTakesACommaAsItIs) {
  EXPECT_EQ(parsed({"subdir=a\\,b\\\\c,noexec"}).subdir, "a,b\\c");
  EXPECT_EQ(parsed({",,ro,"}).subdir, "");
}

TEST(MountOptions, AScanIsWaitedForAsLongAsTold) {
  EXPECT_EQ(parsed({"ro"}).scan_wait, std::chrono::seconds(2));
  EXPECT_EQ(parsed({"scan_wait=500ms"}).scan_wait, std::chrono::milliseconds(500));
  EXPECT_NE(refusal("scan_wait=soon").find("not a time"), std::string::npos);
}

TEST(MountOptions, NothingThatWritesOrRaisesRights) {
  for (const char* option : {"rw", "suid", "dev", "ro,rw"}) {
    EXPECT_NE(refusal(option).find("always ro,nosuid,nodev"), std::string::npos);
  }
}

TEST(MountOptions, UnknownOnesAndWrongValuesAreNamed) {
  for (const char* option : {"colour", "colour=blue", "uid", "exec", "defaults", "x-mount.mkdir"}) {
    EXPECT_EQ(refusal(option).find(std::string("-o ") + option + ": unknown option"), 0U);
  }
  for (const char* option : {"uid=", "uid=-1", "uid=4294967295", "uid=99999999999", "gid=1x",
                             "umask=8", "umask=1000", "owner=", "owner=root"}) {
    EXPECT_EQ(refusal(option).find(std::string("-o ") + option + ": "), 0U);
  }
}

TEST(MountOptions, WhatMount8AddsDoesNothing) {
  const MountOptions options =
      parsed({"rw,suid,dev,exec,defaults,nofail,x-systemd.automount,comment=x"}, true);
  EXPECT_FALSE(options.noexec || options.allow_other);
  refusal("colour=blue", true);
}

}  // namespace
}  // namespace shardfs
