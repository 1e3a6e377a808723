#include "tools/mkshard/ordered_pool.h"

#include <atomic>
#include <chrono>
#include <latch>
#include <new>
#include <thread>

#include <gtest/gtest.h>

namespace shardfs {
namespace {

using Pool = OrderedPool<int>;

TEST(OrderedPool, GivesResultsInTheOrderOfJobs) {
  Pool pool(8, 64, 1 << 20);
  constexpr int kJobs = 5000;
  std::thread producer([&] {
    for (int i = 0; i < kJobs; ++i) {
      pool.submit([i](Pool::Claim&) {
        if (i % 7 == 0) std::this_thread::yield();
        return i;
      });
    }
    pool.close();
  });
  for (int i = 0; i < kJobs; ++i) EXPECT_EQ(pool.pop(), i);
  EXPECT_EQ(pool.pop(), std::nullopt);
  producer.join();
}

TEST(OrderedPool, OneThreadMaySubmitAndPop) {
  Pool pool(2, 4, 100);
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(pool.submit([i](Pool::Claim&) { return i; }));
  for (int i = 0; i < 4; ++i) EXPECT_EQ(pool.pop(), i);
  pool.close();
  EXPECT_EQ(pool.pop(), std::nullopt);
}

TEST(OrderedPool, ClaimsStayWithinTheBudgetButForTheNextResult) {
  constexpr std::int64_t kBudget = 100, kEach = 60;
  std::atomic<std::int64_t> held = 0, most = 0;
  Pool pool(8, 64, kBudget);
  std::thread producer([&] {
    for (int i = 0; i < 500; ++i) {
      pool.submit([&, i](Pool::Claim& claim) {
        claim.reserve(kEach);
        const std::int64_t now = held += kEach;
        std::int64_t before = most;
        while (before < now && !most.compare_exchange_weak(before, now)) {
        }
        return i;
      });
    }
    pool.close();
  });
  // `held` falls before the pool knows, so it never counts more than the pool does.
  for (int i = 0; i < 500; ++i) {
    ASSERT_EQ(pool.pop(), i);
    held -= kEach;
  }
  producer.join();
  // One claim within the budget, one of the job popped next, one of a result popped but not yet
  // counted off.
  EXPECT_LE(most, 3 * kEach);
  EXPECT_GE(most, kEach);
}

TEST(OrderedPool, AJobLargerThanTheBudgetStillRuns) {
  Pool pool(2, 4, 10);
  pool.submit([](Pool::Claim& claim) {
    claim.reserve(1000);
    return 1;
  });
  EXPECT_EQ(pool.pop(), 1);
  EXPECT_TRUE(pool.submit([](Pool::Claim&) { return 2; }, 1000));
  EXPECT_EQ(pool.pop(), 2);
}

TEST(OrderedPool, CancelEndsAllWaiting) {
  Pool pool(2, 2, 10);
  std::latch started(1);
  std::thread producer([&] {
    pool.submit([&](Pool::Claim&) {
      started.wait();
      return 0;
    });
    pool.submit([](Pool::Claim& claim) {
      claim.reserve(5);
      claim.reserve(50);  // Waits: it is not the next one.
      return 1;
    });
    while (pool.submit([](Pool::Claim&) { return 2; })) {
    }
  });
  std::thread consumer([&] { EXPECT_EQ(pool.pop(), std::nullopt); });
  pool.cancel();
  started.count_down();
  producer.join();
  consumer.join();
  EXPECT_EQ(pool.pop(), std::nullopt);
}

TEST(OrderedPool, WhatAJobThrowsComesOutOfPop) {
  Pool pool(2, 4, 10);
  pool.submit([](Pool::Claim&) -> int { throw std::bad_alloc(); });
  EXPECT_THROW(pool.pop(), std::bad_alloc);
  EXPECT_FALSE(pool.submit([](Pool::Claim&) { return 1; }));
}

TEST(OrderedPool, CanBeDestroyedWithWorkLeft) {
  std::atomic<int> ran = 0;
  {
    Pool pool(2, 1000, 10);
    for (int i = 0; i < 1000; ++i) {
      pool.submit([&](Pool::Claim&) { return ++ran; });
    }
  }
  EXPECT_LE(ran, 1000);
}

}  // namespace
}  // namespace shardfs
