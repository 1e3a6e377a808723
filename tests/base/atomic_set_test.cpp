#include "fs/base/atomic_set.h"

#include <atomic>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace shardfs {
namespace {

TEST(AtomicSet, HoldsWhatWasPutIn) {
  AtomicSet set(130);
  EXPECT_FALSE(set.contains(129));
  EXPECT_TRUE(set.insert(129));
  EXPECT_FALSE(set.insert(129));
  EXPECT_TRUE(set.contains(129));
  EXPECT_FALSE(set.contains(65));
  set.erase(129);
  EXPECT_FALSE(set.contains(129));
}

TEST(AtomicSet, HoldsNothingBeyondItsSize) {
  AtomicSet set(64);
  for (const std::uint64_t beyond : {64UL, 1'000'000UL, ~0UL}) {
    EXPECT_FALSE(set.insert(beyond));
    set.erase(beyond);
    EXPECT_FALSE(set.contains(beyond));
  }
}

TEST(AtomicSet, OneThreadInsertsFirst) {
  AtomicSet set(10'000);
  std::atomic<int> first = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (std::uint64_t e = 0; e < 10'000; ++e) first += set.insert(e) ? 1 : 0;
      });
    }
  }
  EXPECT_EQ(first, 10'000);
}

}  // namespace
}  // namespace shardfs
