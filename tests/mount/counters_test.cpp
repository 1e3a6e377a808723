#include "fs/mount/counters.h"

#include <set>
#include <string>

#include <gtest/gtest.h>

namespace shardfs {
namespace {

TEST(Counters, CountEachOperationByItself) {
  Counters counters;
  counters.count(Op::Lookup);
  counters.count(Op::Lookup);
  counters.count_read(100, std::chrono::milliseconds(1500));
  counters.count_pushed(7);
  EXPECT_EQ(counters.of(Op::Lookup), 2U);
  EXPECT_EQ(counters.of(Op::Getattr), 0U);
  EXPECT_EQ(counters.of(Op::NotifyStore), 1U);
  EXPECT_EQ(counters.read_bytes(), 100U);
  EXPECT_EQ(counters.pushed_bytes(), 7U);
  EXPECT_DOUBLE_EQ(counters.waited_s(), 1.5);
}

TEST(Counters, EveryOperationHasANameOfItsOwn) {
  std::set<std::string> names;
  for (std::size_t i = 0; i < kOps; ++i) names.emplace(name(static_cast<Op>(i)));
  EXPECT_EQ(names.size(), kOps);
  EXPECT_FALSE(names.contains("unknown"));
}

}  // namespace
}  // namespace shardfs
