#include "fs/mount/error_log.h"

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>
#include <unistd.h>

#include "fs/mount/log.h"

namespace shardfs {
namespace {

namespace fs = std::filesystem;

class ErrorLogTest : public testing::Test {
 protected:
  ErrorLogTest()
      : file_(fs::path(testing::TempDir()) / ("error-log-" + std::to_string(::getpid()))) {
    EXPECT_TRUE(start_log(file_.string(), LogLevel::Normal));
  }
  ~ErrorLogTest() override {
    EXPECT_TRUE(start_log("stderr", LogLevel::Normal));
    fs::remove(file_);
  }

  [[nodiscard]] int lines() const {
    std::ifstream file(file_);
    int count = 0;
    for (std::string line; std::getline(file, line);) ++count;
    return count;
  }

  static Error damage(const std::string& text) { return {ErrorKind::Corrupt, 0, text}; }

  fs::path file_;
  ErrorLog log_;
};

TEST_F(ErrorLogTest, LogsADamagedPlaceOnce) {
  for (int i = 0; i < 100; ++i) log_.record("a", damage("a: piece 1"));
  log_.record("a", damage("a: piece 2"));
  EXPECT_EQ(lines(), 2);
  EXPECT_EQ(log_.total(), 101U);
  ASSERT_EQ(log_.last().size(), 2U);
  EXPECT_EQ(log_.last()[0].path, "a");
  EXPECT_EQ(log_.last()[0].sys_errno, EIO);
  EXPECT_EQ(log_.last()[1].text, "a: piece 2");
}

TEST_F(ErrorLogTest, KeepsTheLastOnes) {
  for (int i = 0; i < 20; ++i) log_.record("f", damage(std::to_string(i)));
  ASSERT_EQ(log_.last().size(), ErrorLog::kKept);
  EXPECT_EQ(log_.last().front().text, "4");
  EXPECT_EQ(log_.last().back().text, "19");
}

TEST_F(ErrorLogTest, CannotFillADisk) {
  for (int i = 0; i < 3000; ++i) log_.record("f", damage(std::to_string(i)));
  EXPECT_EQ(lines(), static_cast<int>(ErrorLog::kMaxTexts) + 1);
  EXPECT_EQ(log_.total(), 3000U);
}

TEST(Log, AFileThatCannotBeOpenedIsAnError) {
  const auto started = start_log("/nonexistent/log", LogLevel::Normal);
  ASSERT_FALSE(started);
  EXPECT_NE(started.error().message.find("/nonexistent/log: cannot open the log"),
            std::string::npos);
}

}  // namespace
}  // namespace shardfs
