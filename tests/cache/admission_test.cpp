#include "cache/server/admission.h"

#include <limits>
#include <optional>

#include <gtest/gtest.h>

namespace shardfs {
namespace {

constexpr std::uint64_t kArchive = 1000;

/// Ten units of which the first is kept, in the second window, nothing touched.
Admission one_kept() {
  Admission admission(10, kArchive);
  admission.kept(0);
  admission.touch(9, 0, kArchive);
  return admission;
}

void end_window(Admission& admission) { admission.touch(9, 0, kArchive); }

TEST(Admission, NothingIsReplacedInTheFirstWindow) {
  Admission admission(10, kArchive);
  admission.kept(0);
  admission.touch(1, 100, kArchive - 1);
  EXPECT_EQ(admission.victim_for(1), std::nullopt);
  admission.touch(1, 0, 1);
  EXPECT_EQ(admission.victim_for(1), 0u);
}

TEST(Admission, AnUntouchedVictimNeedsThreeTouches) {
  Admission admission = one_kept();
  admission.touch(1, 2, 0);
  EXPECT_EQ(admission.victim_for(1), std::nullopt);
  admission.touch(1, 1, 0);
  EXPECT_EQ(admission.victim_for(1), 0u);
}

TEST(Admission, ATouchedVictimNeedsTwiceItsTouchesAndSix) {
  Admission admission = one_kept();
  admission.touch(0, 10, 0);
  admission.touch(1, 25, 0);
  EXPECT_EQ(admission.victim_for(1), std::nullopt);
  admission.touch(1, 1, 0);
  EXPECT_EQ(admission.victim_for(1), 0u);
}

TEST(Admission, AVictimThatWasReadByTheMegabyteNeedsTwiceItsBytesToo) {
  Admission admission = one_kept();
  admission.touch(0, 1, 100);
  admission.touch(1, 50, 199);
  EXPECT_EQ(admission.victim_for(1), std::nullopt);
  admission.touch(1, 1, 1);
  EXPECT_EQ(admission.victim_for(1), 0u);
}

TEST(Admission, TouchesOfTheLastWindowCount) {
  Admission admission = one_kept();
  admission.touch(1, 2, 0);
  end_window(admission);
  admission.touch(1, 1, 0);
  EXPECT_EQ(admission.victim_for(1), 0u);
}

TEST(Admission, TouchesBeforeTheLastWindowAreForgotten) {
  Admission admission = one_kept();
  admission.touch(1, 100, 0);
  end_window(admission);
  end_window(admission);
  EXPECT_EQ(admission.victim_for(1), std::nullopt);
}

TEST(Admission, ATouchOfSeveralWindowsEndsOne) {
  Admission admission = one_kept();
  admission.touch(1, 3, 5 * kArchive / 2);
  EXPECT_EQ(admission.victim_for(1), 0u);
  admission.touch(2, 0, kArchive / 2 - 1);
  EXPECT_EQ(admission.victim_for(1), 0u);
  admission.touch(2, 0, 1);
  EXPECT_EQ(admission.victim_for(1), std::nullopt);
}

TEST(Admission, TheLongestTouchEndsAWindow) {
  Admission admission(2, kArchive);
  admission.kept(0);
  admission.touch(1, 0, kArchive - 1);
  admission.touch(1, 3, std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(admission.victim_for(1), 0u);
}

TEST(Admission, CountersStayAtTheirGreatest) {
  constexpr auto kMost = std::numeric_limits<std::uint32_t>::max();
  Admission admission = one_kept();
  admission.touch(0, kMost / 2, 0);
  admission.touch(1, kMost, 0);
  admission.touch(1, kMost, 0);
  EXPECT_EQ(admission.victim_for(1), std::nullopt) << "twice the victim's is one less, and no six";
  end_window(admission);
  admission.touch(1, kMost, 0);
  EXPECT_EQ(admission.victim_for(1), 0u) << "the sum of two windows does not wrap";
}

TEST(Admission, TheVictimIsTheColdestOfTheNextEight) {
  Admission admission(20, kArchive);
  for (Unit unit = 0; unit < 16; ++unit) {
    admission.kept(unit);
    admission.touch(unit, unit == 5 ? 1 : 2, 0);
  }
  admission.touch(12, 0, kArchive);
  admission.touch(19, 100, 0);
  EXPECT_EQ(admission.victim_for(19), 5u);
  EXPECT_EQ(admission.victim_for(19), 8u) << "the first of the next eight, alike as they are";
  EXPECT_EQ(admission.victim_for(19), 5u) << "the hand has come round";
}

TEST(Admission, TheHandPassesWhatIsNotKept) {
  Admission admission(1000, kArchive);
  for (const Unit unit : {3u, 64u, 700u, 999u}) admission.kept(unit);
  admission.touch(700, 1, kArchive);
  admission.touch(3, 1, 0);
  admission.touch(64, 1, 0);
  admission.touch(500, 50, 0);
  EXPECT_EQ(admission.victim_for(500), 999u);
  admission.dropped(999);
  admission.kept(500);
  EXPECT_EQ(admission.victim_for(999), std::nullopt);
  admission.touch(999, 8, 0);
  EXPECT_EQ(admission.victim_for(999), 3u);
}

TEST(Admission, AKeptUnitIsNoCandidate) {
  Admission admission = one_kept();
  admission.kept(1);
  admission.touch(1, 100, 0);
  EXPECT_EQ(admission.victim_for(1), std::nullopt);
}

TEST(Admission, WhereNothingIsKeptNothingIsGivenUp) {
  Admission admission(10, kArchive);
  admission.touch(1, 100, kArchive);
  EXPECT_EQ(admission.victim_for(1), std::nullopt);
  EXPECT_EQ(admission.victim_for_space(), std::nullopt);
}

TEST(Admission, WhereAllIsKeptNoneComesIn) {
  Admission admission(10, kArchive);
  for (Unit unit = 0; unit < 10; ++unit) admission.kept(unit);
  admission.touch(1, 100, kArchive);
  for (Unit unit = 0; unit < 10; ++unit) EXPECT_EQ(admission.victim_for(unit), std::nullopt);
}

TEST(Admission, SpaceIsMadeFromTheFirstWindowOnByTheColdest) {
  Admission admission(10, kArchive);
  for (const Unit unit : {2u, 4u, 6u}) admission.kept(unit);
  admission.touch(2, 5, 0);
  admission.touch(6, 5, 0);
  EXPECT_EQ(admission.victim_for_space(), 4u);
}

TEST(Admission, KeepingAndDroppingTwiceIsOnce) {
  Admission admission(10, kArchive);
  admission.kept(3);
  admission.kept(3);
  EXPECT_EQ(admission.kept_units(), 1u);
  EXPECT_TRUE(admission.is_kept(3));
  admission.dropped(3);
  admission.dropped(3);
  EXPECT_EQ(admission.kept_units(), 0u);
  EXPECT_FALSE(admission.is_kept(3));
}

TEST(Admission, UnitsBeyondTheArchiveAreNeverKept) {
  Admission admission = one_kept();
  for (const Unit beyond : {10u, 64u, std::numeric_limits<Unit>::max()}) {
    admission.touch(beyond, 100, 0);
    admission.kept(beyond);
    admission.dropped(beyond);
    EXPECT_FALSE(admission.is_kept(beyond));
    EXPECT_EQ(admission.victim_for(beyond), std::nullopt);
  }
  EXPECT_EQ(admission.kept_units(), 1u);
}

TEST(Admission, AnEmptyArchiveHasNothingToKeep) {
  Admission admission(0, 0);
  admission.touch(0, 1, 1);
  admission.kept(0);
  EXPECT_EQ(admission.kept_units(), 0u);
  EXPECT_EQ(admission.victim_for(0), std::nullopt);
  EXPECT_EQ(admission.victim_for_space(), std::nullopt);
}

TEST(Admission, AnArchiveSmallerThanAUnitIsOneUnit) {
  Admission admission(1, 10);
  admission.kept(0);
  for (int i = 0; i < 100; ++i) admission.touch(0, 1, 10);
  EXPECT_TRUE(admission.is_kept(0));
  EXPECT_EQ(admission.victim_for(0), std::nullopt);
  EXPECT_EQ(admission.victim_for_space(), 0u);
}

}  // namespace
}  // namespace shardfs
