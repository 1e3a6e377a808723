#include "cuda/plan.h"

#include <algorithm>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace shardfs {
namespace {

constexpr std::uint64_t kStaging = 1 << 20;

std::vector<Item> items(std::size_t count, unsigned seed, std::uint64_t most) {
  std::mt19937 random(seed);
  std::vector<Item> all(count);
  DeviceAddress to = 0x1000;
  for (std::size_t i = 0; i < count; ++i) {
    all[i].inode = static_cast<Entry>(i);
    all[i].length = random() % most;
    all[i].offset = random() % 3 == 0 ? random() % 100'000 : 0;
    all[i].position = random() % 1'000'000;
    all[i].to = to;
    to += all[i].length + random() % 40;
  }
  return all;
}

void check(const std::vector<Item>& all, const Plan& made, const PlanLimits& limits) {
  std::vector<std::uint64_t> covered(all.size());
  std::size_t parts = 0;
  std::uint64_t position = 0;
  for (const Task& task : made.tasks) {
    EXPECT_EQ(task.first, parts);
    EXPECT_GT(task.count, 0U);
    EXPECT_LE(task.count, kMostParts);
    EXPECT_LE(task.staged, limits.staging);
    parts += task.count;
    std::uint64_t end = 0;
    for (std::size_t i = task.first; i < task.first + task.count; ++i) {
      const Part& part = made.parts[i];
      const Item& item = all[part.item];
      EXPECT_GT(part.length, 0U);
      EXPECT_EQ(part.at % 16, part.to % 16);
      EXPECT_GE(part.at, end) << "parts overlap";
      end = part.at + part.length;
      // In order, without gaps, and where it belongs.
      EXPECT_EQ(part.offset, item.offset + covered[part.item]);
      EXPECT_EQ(part.to, item.to + covered[part.item]);
      covered[part.item] += part.length;
      if (covered[part.item] != item.length) {
        EXPECT_EQ((part.offset + part.length) % kPartGrain, 0U) << "a checksum is computed twice";
      }
      EXPECT_GE(item.position, position) << "not in the order of the archive";
      position = item.position;
    }
    EXPECT_LE(end, task.staged);
  }
  EXPECT_EQ(parts, made.parts.size());
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ(covered[i], all[i].length);
}

TEST(PlanOfABatch, CoversEveryByteOnce) {
  for (const std::uint64_t most :
       {std::uint64_t{10}, std::uint64_t{50'000}, std::uint64_t{9'000'000}}) {
    for (const unsigned readers : {1U, 3U, 16U}) {
      for (const bool free : {false, true}) {
        const PlanLimits limits{kStaging, readers, free};
        const auto all = items(200, readers, most);
        check(all, plan(all, limits), limits);
      }
    }
  }
}

TEST(PlanOfABatch, ManyTinyFiles) {
  const PlanLimits limits{kStaging, 2, false};
  const auto all = items(10'000, 1, 12);
  check(all, plan(all, limits), limits);
}

TEST(PlanOfABatch, EveryReaderHasSomething) {
  std::vector<Item> one(1);
  one[0].length = 64 << 20;
  EXPECT_GE(plan(one, {kStaging, 16, true}).tasks.size(), 16U);
  // And nobody a task that is not worth it.
  one[0].length = 300'000;
  EXPECT_LE(plan(one, {kStaging, 16, true}).tasks.size(), 2U);
}

TEST(PlanOfABatch, NeighboursInOneAllocationAreOneRun) {
  std::vector<Item> all(50);
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i].length = 1000 + i;
    all[i].position = 5000 * i;
  }
  EXPECT_EQ(lay_out(all) % kGap, 0U);
  const Plan made = plan(all, {kStaging, 1, true});
  ASSERT_EQ(made.tasks.size(), 1U);
  for (const Part& part : made.parts)
    EXPECT_EQ(part.at - made.parts.front().at, part.to - made.parts.front().to);
}

TEST(PlanOfABatch, LaysOutInTheOrderOfTheArchive) {
  std::vector<Item> all(3);
  all[0].length = 10;
  all[0].position = 900;
  all[1].length = 300;
  all[1].position = 100;
  all[2].length = 0;
  all[2].position = 500;
  EXPECT_EQ(lay_out(all), 512U + 256U);
  EXPECT_EQ(all[1].to, 0U);
  EXPECT_EQ(all[0].to, 512U);
}

TEST(PlanOfABatch, Nothing) {
  EXPECT_TRUE(plan({}, {kStaging, 2, false}).tasks.empty());
  EXPECT_TRUE(plan(std::vector<Item>(3), {kStaging, 2, false}).tasks.empty());
}

}  // namespace
}  // namespace shardfs
