#include "cache/server/hints.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace shardfs {
namespace {

constexpr std::uint64_t kKiB = 1024;
constexpr std::uint64_t kRoom = 64 << 20;

bool nothing_cached(const HintRange&) { return false; }

/// Bytes that tell where in the archive they lie.
Bytes content(const Hints::Fetch& fetch) {
  Bytes bytes(fetch.length);
  for (std::uint64_t i = 0; i < fetch.length; ++i) bytes[i] = std::byte((fetch.offset + i) / 512);
  return bytes;
}

void fetch_all(Hints& hints) {
  while (const auto fetch = hints.next(nothing_cached)) hints.fetched(*fetch, content(*fetch));
}

std::vector<std::pair<std::uint64_t, std::uint64_t>> fetches(Hints& hints) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> all;
  while (const auto fetch = hints.next(nothing_cached))
    all.emplace_back(fetch->offset, fetch->length);
  return all;
}

TEST(Hints, RangesCloseTogetherAreFetchedAtOnceInOrderOfPlace) {
  Hints hints(kRoom);
  const std::vector<HintRange> ranges{{140 * kKiB, 10 * kKiB}, {0, 20 * kKiB}, {8 << 20, kKiB}};
  hints.add(ranges, false);
  const std::vector<std::pair<std::uint64_t, std::uint64_t>> expected{{0, 150 * kKiB},
                                                                      {8 << 20, kKiB}};
  EXPECT_THAT(fetches(hints), testing::ContainerEq(expected));
}

TEST(Hints, NoRequestIsLargerThanTheLimit) {
  Hints hints(kRoom);
  const std::vector<HintRange> ranges{{0, 10 << 20}, {10 << 20, 1 << 20}};
  hints.add(ranges, false);
  std::uint64_t end = 0;
  for (const auto& [offset, length] : fetches(hints)) {
    EXPECT_LE(length, Hints::kRequest);
    EXPECT_LE(offset, end);
    end = std::max(end, offset + length);
  }
  EXPECT_EQ(end, 11U << 20);
}

TEST(Hints, WhatIsFetchedIsGivenOnce) {
  Hints hints(kRoom);
  const std::vector<HintRange> ranges{{1000, 3000}};
  hints.add(ranges, false);
  EXPECT_EQ(hints.find(1000, 3000, [](ByteSpan) { FAIL(); }), Hints::Outcome::Unknown);
  const auto fetch = hints.next(nothing_cached);
  ASSERT_TRUE(fetch);
  EXPECT_EQ(hints.find(1000, 3000, [](ByteSpan) { FAIL(); }), Hints::Outcome::Coming);
  const Bytes bytes = content(*fetch);
  hints.fetched(*fetch, bytes);
  Bytes got;
  const auto use = [&](ByteSpan span) { got.assign(span.begin(), span.end()); };
  EXPECT_EQ(hints.find(1000, 3000, use), Hints::Outcome::Here);
  EXPECT_EQ(got, bytes);
  EXPECT_EQ(hints.find(1000, 3000, use), Hints::Outcome::Unknown);
}

TEST(Hints, ALargeRangeIsReadInParts) {
  Hints hints(kRoom);
  const std::vector<HintRange> ranges{{0, 9 << 20}};
  hints.add(ranges, false);
  fetch_all(hints);
  for (std::uint64_t at = 0; at < 9 << 20; at += 1 << 20) {
    Bytes got;
    ASSERT_EQ(hints.find(at, 1 << 20, [&](ByteSpan s) { got.assign(s.begin(), s.end()); }),
              Hints::Outcome::Here);
    EXPECT_EQ(got, content({at, 1 << 20}));
  }
}

TEST(Hints, NoMoreIsHeldThanTheRoomAllowsUntilSomethingIsRead) {
  Hints hints(kRoom);
  std::vector<HintRange> ranges;
  for (std::uint64_t i = 0; i < 100; ++i) ranges.push_back({i << 21, 1 << 20});
  hints.add(ranges, false);
  std::uint64_t held = 0;
  while (const auto fetch = hints.next(nothing_cached)) {
    held += fetch->length;
    hints.fetched(*fetch, content(*fetch));
  }
  EXPECT_LE(held, 2 * kRoom);
  EXPECT_FALSE(hints.is_empty());
  EXPECT_EQ(hints.due_bytes(), 0U);
  for (std::uint64_t i = 0; i < 60; ++i) {
    (void)hints.find(i << 21, 1 << 20, [](ByteSpan) {});
  }
  EXPECT_TRUE(hints.next(nothing_cached));
}

TEST(Hints, NoMoreRangesArePlannedThanAllowedHoweverSmall) {
  Hints hints(kRoom);
  std::vector<HintRange> ranges;
  for (std::uint64_t i = 0; i < Hints::kMostRanges + 1000; ++i) ranges.push_back({i << 20, 1});
  hints.add(ranges, false);
  EXPECT_TRUE(hints.has_plenty());
  EXPECT_EQ(fetches(hints).size(), Hints::kMostRanges);
  EXPECT_FALSE(hints.is_empty());
}

TEST(Hints, WhatLiesFarBehindTheReadersIsDropped) {
  Hints hints(kRoom);
  std::vector<HintRange> ranges;
  for (std::uint64_t i = 0; i < 3000; ++i) ranges.push_back({i << 20, 4096});
  hints.add(ranges, false);
  fetch_all(hints);
  EXPECT_EQ(hints.find(2999ULL << 20, 4096, [](ByteSpan) {}), Hints::Outcome::Here);
  EXPECT_EQ(hints.find(0, 4096, [](ByteSpan) {}), Hints::Outcome::Unknown);
  EXPECT_EQ(hints.find(2998ULL << 20, 4096, [](ByteSpan) {}), Hints::Outcome::Here);
}

TEST(Hints, WhatComesWhenTheReadersAreFarAheadIsDropped) {
  Hints hints(kRoom);
  std::vector<HintRange> ranges;
  for (std::uint64_t i = 0; i < 3000; ++i) ranges.push_back({i << 20, 4096});
  hints.add(ranges, false);
  const auto late = hints.next(nothing_cached);
  ASSERT_TRUE(late);
  fetch_all(hints);
  EXPECT_EQ(hints.find(2999ULL << 20, 4096, [](ByteSpan) {}), Hints::Outcome::Here);
  EXPECT_EQ(hints.find(0, 4096, [](ByteSpan) {}), Hints::Outcome::Coming);
  hints.fetched(*late, content(*late));
  EXPECT_EQ(hints.find(0, 4096, [](ByteSpan) {}), Hints::Outcome::Unknown);
}

TEST(Hints, TheRoomIsFilledByWhatIsNotPlannedYet) {
  Hints hints(kRoom);
  hints.add(std::vector<HintRange>{{0, kRoom / 2}, {kRoom, kRoom / 4}}, false);
  EXPECT_FALSE(hints.has_plenty());
  hints.add(std::vector<HintRange>{{2 * kRoom, kRoom / 4}}, false);
  EXPECT_TRUE(hints.has_plenty());
  EXPECT_TRUE(hints.next(nothing_cached));
  EXPECT_FALSE(hints.has_plenty());
}

TEST(Hints, AListThatOverlapsTheOneBeforeGetsAllOfItsOwn) {
  Hints hints(kRoom);
  hints.add(std::vector<HintRange>{{5 << 20, 1 << 20}}, false);
  const auto part = hints.next(nothing_cached);
  hints.add(std::vector<HintRange>{{4 << 20, 4 << 20}}, false);
  const auto whole = hints.next(nothing_cached);
  ASSERT_TRUE(part && whole);
  const auto nothing = [](ByteSpan) { FAIL() << "given before it came"; };
  const Bytes wanted = content(*whole);
  // The end of the longer range comes first, with the shorter one.
  for (const auto& fetch : {Hints::Fetch{7 << 20, 1 << 20}, *part}) {
    hints.fetched(fetch, content(fetch));
    EXPECT_EQ(hints.find(4 << 20, kKiB, nothing), Hints::Outcome::Coming);
  }
  hints.fetched(*whole, wanted);
  for (const std::uint64_t at : {0, 1 << 20}) {
    const auto right = [&](ByteSpan bytes) {
      EXPECT_TRUE(std::ranges::equal(bytes, ByteSpan(wanted).subspan(at, kKiB)));
    };
    EXPECT_EQ(hints.find((4 << 20) + at, kKiB, right), Hints::Outcome::Here);
  }
}

TEST(Hints, WhatCouldNotBeFetchedIsForgotten) {
  Hints hints(kRoom);
  const std::vector<HintRange> ranges{{0, 4096}};
  hints.add(ranges, false);
  const auto fetch = hints.next(nothing_cached);
  ASSERT_TRUE(fetch);
  hints.fetched(*fetch, std::nullopt);
  EXPECT_EQ(hints.find(0, 4096, [](ByteSpan) {}), Hints::Outcome::Unknown);
  EXPECT_TRUE(hints.is_empty());
}

TEST(Hints, ANewListReplacesTheOldOne) {
  Hints hints(kRoom);
  hints.add(std::vector<HintRange>{{0, 4096}}, false);
  hints.add(std::vector<HintRange>{{1 << 20, 4096}}, true);
  const auto fetch = hints.next(nothing_cached);
  ASSERT_TRUE(fetch);
  EXPECT_EQ(fetch->offset, 1U << 20);
  EXPECT_FALSE(hints.next(nothing_cached));
}

TEST(Hints, WhatIsCachedIsPassedOver) {
  Hints hints(kRoom);
  hints.add(std::vector<HintRange>{{0, 4096}, {1 << 20, 4096}}, false);
  const auto fetch = hints.next([](const HintRange& range) { return range.offset == 0; });
  ASSERT_TRUE(fetch);
  EXPECT_EQ(fetch->offset, 1U << 20);
}

}  // namespace
}  // namespace shardfs
