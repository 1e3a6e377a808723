#include "tools/common/progress.h"

#include <sstream>

#include <gtest/gtest.h>

namespace shardfs {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// A progress whose clock the test moves.
struct Fixture {
  explicit Fixture(bool terminal, Progress::Show show = Progress::Show::Yes)
      : io{out, err, terminal}, progress(io, "tool", show, [this] { return now; }) {}

  std::string taken() {
    std::string text = err.str();
    err.str("");
    return text;
  }

  std::ostringstream out, err;
  Io io;
  std::chrono::steady_clock::time_point now;
  Progress progress;
};

TEST(Progress, WritesALineEvery30SecondsIntoALog) {
  Fixture f(false);
  f.now += milliseconds(29'999);
  f.progress.update({1000, 10, 0.5});
  EXPECT_EQ(f.taken(), "");
  f.now += milliseconds(1);
  f.progress.update({300 << 20, 10, 0.5});
  EXPECT_EQ(f.taken(), "tool: 300.0 MiB, 10 files, 10.0 MiB/s, 50 %, 0:30 left\n");
  f.now += seconds(29);
  f.progress.update({300 << 20, 10, 0.5});
  EXPECT_EQ(f.taken(), "");
  f.progress.finish();
  EXPECT_EQ(f.taken(), "");
}

TEST(Progress, ShowsNoTimeLeftWhereTheTotalIsUnknown) {
  Fixture f(false);
  f.now += seconds(30);
  f.progress.update({60 << 20, 0, -1});
  EXPECT_EQ(f.taken(), "tool: 60.0 MiB, 2.0 MiB/s\n");
}

TEST(Progress, RedrawsOneLineOnATerminal) {
  Fixture f(true);
  f.now += milliseconds(100);
  f.progress.update({1 << 20, 12345, -1});
  const std::string first = f.taken();
  EXPECT_EQ(first, "\rtool: 1.0 MiB, 12345 files, 10.0 MiB/s");
  f.now += milliseconds(99);
  f.progress.update({2 << 20, 12346, -1});
  EXPECT_EQ(f.taken(), "");
  f.now += milliseconds(900);
  f.progress.update({0, 1, -1});
  const std::string second = f.taken();
  EXPECT_EQ(second.size(), first.size()) << "what was longer before is overwritten";
  EXPECT_EQ(second.find('\n'), std::string::npos);
  f.progress.finish();
  EXPECT_EQ(f.taken().back(), '\r');
}

TEST(Progress, AMessageDoesNotTearTheLine) {
  Fixture f(true);
  f.now += milliseconds(100);
  f.progress.update({1 << 20, 0, -1});
  const std::size_t width = f.taken().size() - 1;
  f.progress.message("tool: a warning");
  EXPECT_EQ(f.taken(), "\r" + std::string(width, ' ') + "\rtool: a warning\n");
}

TEST(Progress, NothingButMessagesWhenNotShown) {
  Fixture f(true, Progress::Show::No);
  f.now += seconds(100);
  f.progress.update({1, 1, 0.5});
  EXPECT_EQ(f.taken(), "");
  f.progress.message("tool: a warning");
  EXPECT_EQ(f.taken(), "tool: a warning\n");
}

TEST(FormatDuration, HoursOnlyWhereThereAreAny) {
  EXPECT_EQ(format_duration(seconds(7)), "0:07");
  EXPECT_EQ(format_duration(seconds(3599)), "59:59");
  EXPECT_EQ(format_duration(seconds(3600 * 30 + 61)), "30:01:01");
}

}  // namespace
}  // namespace shardfs
