#include <gtest/gtest.h>

#include "fs/archive/libarchive/member.h"

namespace shardfs {
namespace {

TEST(MtimeOfPax, TimesBefore1970CountBackwards) {
  EXPECT_EQ(mtime_of_pax("20 mtime=-1.7500000\n"), (Time{-2, 250'000'000}));
  EXPECT_EQ(mtime_of_pax("14 mtime=-0.5\n"), (Time{-1, 500'000'000}));
  EXPECT_EQ(mtime_of_pax("12 mtime=-5\n"), (Time{-5, 0}));
}

TEST(MtimeOfPax, FindsItAmongOthers) {
  EXPECT_EQ(mtime_of_pax("12 path=a b\n22 mtime=17.123456789\n12 ctime=99\n"),
            (Time{17, 123'456'789}));
  EXPECT_EQ(mtime_of_pax("26 mtime=17.1234567899999\n"), (Time{17, 123'456'789}));
}

TEST(MtimeOfPax, NothingWhereThereIsNone) {
  EXPECT_EQ(mtime_of_pax(""), std::nullopt);
  EXPECT_EQ(mtime_of_pax("12 atime=99\n"), std::nullopt);
  EXPECT_EQ(mtime_of_pax("99 mtime=1\n"), std::nullopt);
  EXPECT_EQ(mtime_of_pax("0 mtime=1\n"), std::nullopt);
  EXPECT_EQ(mtime_of_pax("14 mtime=soon\n"), std::nullopt);
}

}  // namespace
}  // namespace shardfs
