#include "fs/base/own_descriptors.h"

#include <thread>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "fs/base/unique_fd.h"

namespace shardfs {
namespace {

bool is_open(int number) { return ::fcntl(number, F_GETFD) >= 0; }

TEST(OwnDescriptors, AreOneThreadsAlone) {
  const UniqueFd kept(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const UniqueFd other(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(kept && other);
  bool granted = false;
  std::thread thread([&] {
    granted = own_descriptors(kept.get()).has_value();
    if (!granted) return;
    EXPECT_TRUE(is_open(kept.get()));
    EXPECT_TRUE(is_open(STDERR_FILENO));
    EXPECT_FALSE(is_open(other.get()));
    // What it opens and closes from now on is nobody else's.
    EXPECT_EQ(::dup2(kept.get(), 200), 200);
    ::close(kept.get());
  });
  thread.join();
  if (!granted) GTEST_SKIP() << "a sandbox forbids it";
  EXPECT_TRUE(is_open(kept.get()));
  EXPECT_TRUE(is_open(other.get()));
  EXPECT_FALSE(is_open(200));
}

}  // namespace
}  // namespace shardfs
