#include "fs/mount/slow_pool.h"

#include <atomic>
#include <latch>
#include <thread>

#include <gtest/gtest.h>

namespace shardfs {
namespace {

TEST(SlowPool, RunsAllWorkBeforeItStops) {
  std::atomic<int> done{0};
  SlowPool pool;
  for (int i = 0; i < 1000; ++i) pool.run([&] { ++done; });
  pool.stop();
  EXPECT_EQ(done, 1000);
}

TEST(SlowPool, AsManyMayWaitAsThereAreThreads) {
  constexpr int kMost = static_cast<int>(SlowPool::kThreads);
  std::latch all_there(kMost), go_on(1);
  std::atomic<int> done{0};
  SlowPool pool;
  for (int i = 0; i < kMost; ++i) {
    pool.run([&] {
      all_there.count_down();
      go_on.wait();
      ++done;
    });
  }
  all_there.wait();  // Hangs if one of them waits for another's thread.
  pool.run([&] { ++done; });
  EXPECT_EQ(done, 0);
  go_on.count_down();
  pool.stop();
  EXPECT_EQ(done, kMost + 1);
}

TEST(SlowPool, WorkMayComeFromWork) {
  std::atomic<int> done{0};
  std::latch inner(1);
  SlowPool pool;
  pool.run([&] {
    pool.run([&] {
      ++done;
      inner.count_down();
    });
  });
  inner.wait();
  pool.stop();
  EXPECT_EQ(done, 1);
}

TEST(SlowPool, StopsWithoutHavingWorked) {
  SlowPool pool;
  pool.stop();
}

}  // namespace
}  // namespace shardfs
