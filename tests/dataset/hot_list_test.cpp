#include "fs/dataset/hot_list.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace shardfs {
namespace {

class HotListTest : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directory(directory_); }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  const std::filesystem::path directory_ =
      std::filesystem::temp_directory_path() / ("hot-list-" + std::to_string(::getpid()));
  const std::string path_ = directory_ / "list";
};

TEST_F(HotListTest, ComesBackAsItWasSaved) {
  ASSERT_TRUE(save_hot_list(path_, {"0123", {7, 3, 0}}));
  const auto list = load_hot_list(path_);
  ASSERT_TRUE(list);
  EXPECT_EQ(list->archive_id, "0123");
  EXPECT_THAT(list->units, testing::ElementsAre(7, 3, 0));
}

TEST_F(HotListTest, ANewOneReplacesTheOldOneAndLeavesNothingElse) {
  ASSERT_TRUE(save_hot_list(path_, {"a", {1}}));
  ASSERT_TRUE(save_hot_list(path_, {"b", {2}}));
  EXPECT_EQ(load_hot_list(path_)->archive_id, "b");
  const auto entries = std::filesystem::directory_iterator(directory_);
  EXPECT_EQ(std::distance(begin(entries), end(entries)), 1);
}

TEST_F(HotListTest, NoneIsNotFound) {
  EXPECT_EQ(load_hot_list(path_).error().kind, ErrorKind::NotFound);
}

TEST_F(HotListTest, SomethingElseIsInvalid) {
  std::ofstream(path_) << "files:\n  - a.jpg\n";
  EXPECT_EQ(load_hot_list(path_).error().kind, ErrorKind::Invalid);
  std::ofstream(path_) << "shardfs-hot-list 2 id\n1\n";
  EXPECT_EQ(load_hot_list(path_).error().kind, ErrorKind::Invalid);
}

TEST_F(HotListTest, WhereItCannotBeWrittenTheOldOneStays) {
  EXPECT_FALSE(save_hot_list(directory_ / "none" / "list", {"a", {1}}));
}

}  // namespace
}  // namespace shardfs
