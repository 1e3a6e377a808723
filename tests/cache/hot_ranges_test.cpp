#include "cache/server/hot_ranges.h"

#include <algorithm>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace shardfs {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr std::uint64_t kCapacity = 1000;
constexpr std::uint64_t kReach = 64'000;

HotKey key(std::uint64_t offset) { return {.offset = offset, .length = 100}; }

unsigned misses_until_wanted(HotRanges& hot, const HotKey& wanted) {
  unsigned misses = 1;
  while (!hot.wants(wanted, 100) && misses < 100) ++misses;
  return misses;
}

TEST(HotRanges, ARangeIsWantedAtItsThirdMiss) {
  HotRanges hot(kCapacity, kReach);
  EXPECT_FALSE(hot.wants(key(1), 100));
  EXPECT_FALSE(hot.wants(key(2), 100));
  EXPECT_FALSE(hot.wants(key(1), 100));
  EXPECT_TRUE(hot.wants(key(1), 100));
  EXPECT_FALSE(hot.wants(key(2), 100));
  EXPECT_TRUE(hot.wants(key(2), 100));
}

TEST(HotRanges, HavingBeenWantedItCountsFromTheBeginning) {
  HotRanges hot(kCapacity, kReach);
  EXPECT_EQ(misses_until_wanted(hot, key(1)), 3u);
  EXPECT_EQ(misses_until_wanted(hot, key(1)), 3u);
}

TEST(HotRanges, OneMissMayBeEnough) {
  HotRanges hot(kCapacity, kReach, 1);
  EXPECT_TRUE(hot.wants(key(1), 100));
}

TEST(HotRanges, ArchiveOffsetAndLengthTellRangesApart) {
  HotRanges hot(kCapacity, kReach, 2);
  HotKey other_archive = key(1);
  other_archive.archive[15] = std::byte{1};
  HotKey other_length = key(1);
  other_length.length = 99;
  for (const HotKey& k : {key(1), other_archive, other_length, key(2)})
    EXPECT_FALSE(hot.wants(k, 100));
  EXPECT_THAT(hot.insert(key(1), 100), IsEmpty());
  EXPECT_FALSE(hot.contains(other_archive));
  EXPECT_FALSE(hot.contains(other_length));
}

TEST(HotRanges, WhatIsHeldIsNotWanted) {
  HotRanges hot(kCapacity, kReach, 1);
  EXPECT_THAT(hot.insert(key(1), 100), IsEmpty());
  EXPECT_FALSE(hot.wants(key(1), 100));
}

TEST(HotRanges, MoreThanAnEighthOfTheStoreIsNotWanted) {
  HotRanges hot(kCapacity, kReach, 1);
  EXPECT_TRUE(hot.wants(key(1), kCapacity / 8));
  EXPECT_FALSE(hot.wants(key(2), kCapacity / 8 + 1));
}

TEST(HotRanges, AStoreWithoutRoomWantsAndHoldsNothing) {
  HotRanges hot(0, 0, 1);
  EXPECT_FALSE(hot.wants(key(1), 1));
  EXPECT_THAT(hot.insert(key(1), 1), IsEmpty());
  EXPECT_FALSE(hot.contains(key(1)));
}

TEST(HotRanges, AMissIsForgottenAfterTheReach) {
  HotRanges hot(kCapacity, kReach, 2);
  EXPECT_FALSE(hot.wants(key(0), 100));
  for (std::uint64_t missed = 0; missed < kReach; missed += 100)
    EXPECT_FALSE(hot.wants(key(1000 + missed), 100));
  EXPECT_FALSE(hot.wants(key(0), 100)) << "too long ago";
  for (std::uint64_t missed = 0; missed < kReach / 2; missed += 100)
    EXPECT_FALSE(hot.wants(key(1'000'000 + missed), 100));
  EXPECT_TRUE(hot.wants(key(0), 100)) << "half as long ago";
}

TEST(HotRanges, TheLeastLatelyUsedGoFirst) {
  HotRanges hot(kCapacity, kReach);
  EXPECT_THAT(hot.insert(key(1), 400), IsEmpty());
  EXPECT_THAT(hot.insert(key(2), 300), IsEmpty());
  EXPECT_THAT(hot.insert(key(3), 300), IsEmpty());
  EXPECT_TRUE(hot.touch(key(1)));
  EXPECT_THAT(hot.insert(key(4), 500), ElementsAre(key(2), key(3)));
  EXPECT_TRUE(hot.contains(key(1)));
  EXPECT_EQ(hot.bytes(), 900u);
  EXPECT_EQ(hot.ranges(), 2u);
}

TEST(HotRanges, InsertedAgainARangeTakesItsNewSize) {
  HotRanges hot(kCapacity, kReach);
  EXPECT_THAT(hot.insert(key(1), 900), IsEmpty());
  EXPECT_THAT(hot.insert(key(1), 1000), IsEmpty());
  EXPECT_EQ(hot.bytes(), 1000u);
  EXPECT_EQ(hot.ranges(), 1u);
}

TEST(HotRanges, WhatIsLargerThanTheStoreIsNotHeldAndPushesNothingOut) {
  HotRanges hot(kCapacity, kReach);
  EXPECT_THAT(hot.insert(key(1), 500), IsEmpty());
  EXPECT_THAT(hot.insert(key(2), kCapacity + 1), IsEmpty());
  EXPECT_FALSE(hot.contains(key(2)));
  EXPECT_TRUE(hot.contains(key(1)));
  EXPECT_THAT(hot.insert(key(1), kCapacity + 1), ElementsAre(key(1)));
  EXPECT_EQ(hot.bytes(), 0u);
}

TEST(HotRanges, WhatIsErasedIsGone) {
  HotRanges hot(kCapacity, kReach);
  EXPECT_THAT(hot.insert(key(1), 100), IsEmpty());
  EXPECT_TRUE(hot.erase(key(1)));
  EXPECT_FALSE(hot.erase(key(1)));
  EXPECT_FALSE(hot.touch(key(1)));
  EXPECT_EQ(hot.bytes(), 0u);
}

TEST(HotRanges, ASmallerStoreGivesUpTheLeastLatelyUsed) {
  HotRanges hot(kCapacity, kReach);
  for (const std::uint64_t n : {1, 2, 3}) EXPECT_THAT(hot.insert(key(n), 300), IsEmpty());
  EXPECT_THAT(hot.resize(600), ElementsAre(key(1)));
  EXPECT_THAT(hot.insert(key(4), 300), ElementsAre(key(2)));
  EXPECT_THAT(hot.resize(0), ElementsAre(key(3), key(4)));
}

TEST(GhostList, CountsOfMoreRangesThanEntriesAreForgottenOldestFirst) {
  GhostList ghosts(8, kReach);
  for (std::uint64_t range = 1; range <= 9; ++range) EXPECT_EQ(ghosts.count(range << 32, 1), 1u);
  EXPECT_EQ(ghosts.count(std::uint64_t{9} << 32, 1), 2u);
  EXPECT_EQ(ghosts.count(std::uint64_t{1} << 32, 1), 1u) << "the ninth took its place";
}

TEST(GhostList, CountsEndAt255) {
  GhostList ghosts(0, kReach);
  for (unsigned i = 1; i <= 300; ++i) EXPECT_EQ(ghosts.count(1ULL << 40, 1), std::min(i, 255u));
}

TEST(GhostList, WhatIsForgottenCountsFromOne) {
  GhostList ghosts(64, kReach);
  EXPECT_EQ(ghosts.count(1ULL << 40, 1), 1u);
  ghosts.forget(1ULL << 40);
  ghosts.forget(2ULL << 40);
  EXPECT_EQ(ghosts.count(1ULL << 40, 1), 1u);
}

}  // namespace
}  // namespace shardfs
