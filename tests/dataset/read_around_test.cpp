#include "fs/dataset/read_around.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

namespace shardfs {
namespace {

constexpr std::size_t kSize = 2 * ReadAround::kWindow + 12'345;

class ReadAroundTest : public testing::Test {
 protected:
  ReadAroundTest()
      : path_(std::filesystem::path(testing::TempDir()) /
              ("read-around-" + std::to_string(::getpid()))) {
    std::mt19937 random(1);
    content_.resize(kSize);
    for (char& c : content_) c = static_cast<char>(random());
    std::ofstream(path_, std::ios::binary) << content_;
  }
  ~ReadAroundTest() override { std::filesystem::remove(path_); }

  std::filesystem::path path_;
  std::string content_;
};

TEST_F(ReadAroundTest, GivesTheBytesOfTheFile) {
  const ReadAround source(*FileSource::open(path_.string()));
  ASSERT_EQ(source.size(), kSize);
  const std::uint64_t w = ReadAround::kWindow;
  const std::pair<std::uint64_t, std::size_t> ranges[] = {
      {0, kSize}, {0, 0}, {w - 1, 2}, {w, 1}, {2 * w - 5, 10}, {kSize - 1, 1}, {kSize, 0}};
  for (const auto& [offset, size] : ranges) {
    std::vector<std::byte> out(size);
    ASSERT_TRUE(source.read_at(offset, out)) << offset;
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(out.data()), size),
              content_.substr(offset, size));
  }
}

TEST_F(ReadAroundTest, PassesOnThatTheFileEnds) {
  const ReadAround source(*FileSource::open(path_.string()));
  std::vector<std::byte> out(2);
  EXPECT_FALSE(source.read_at(kSize - 1, out));
  EXPECT_FALSE(source.read_at(kSize + ReadAround::kWindow, out));
}

}  // namespace
}  // namespace shardfs
