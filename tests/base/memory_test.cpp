#include "fs/base/memory.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace shardfs {
namespace {

TEST(AvailableMemory, IsSomeOfTheMachine) {
  const auto all = static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
                   static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  EXPECT_GT(available_memory(), 0u);
  EXPECT_LE(available_memory(), all);
}

}  // namespace
}  // namespace shardfs
