#include "tools/mkshard/order.h"

#include <dirent.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace shardfs {
namespace {

using testing::ElementsAre;

PathList list_of(const std::vector<std::string>& names) {
  PathList list;
  auto root = std::make_shared<DirectoryHandle>();
  auto below = std::make_shared<DirectoryHandle>();
  below->path = "d";
  list.add(root, "", DT_DIR);
  list.add(root, "d", DT_DIR);
  for (const std::string& name : names) list.add(name < "m" ? root : below, name, DT_REG);
  return list;
}

std::vector<std::string> paths(const PathList& list) {
  std::vector<std::string> all;
  for (const auto& item : list.others) all.push_back(list.path(item));
  return all;
}

// The order is part of what a seed promises: it must never change.
TEST(Shuffle, IsTheOneDocumented) {
  PathList list = list_of({"a", "b", "c", "x", "y", "z"});
  shuffle(list, 42);
  EXPECT_THAT(paths(list), ElementsAre("d/y", "d/x", "a", "c", "d/z", "b"));
}

TEST(Shuffle, DependsOnTheSeed) {
  PathList one = list_of({"a", "b", "c", "x", "y", "z"}), two = one;
  shuffle(one, 1);
  shuffle(two, 2);
  EXPECT_NE(paths(one), paths(two));
  EXPECT_THAT(paths(one), testing::UnorderedElementsAreArray(paths(two)));
}

TEST(SortAsListed, ListedOnesComeFirst) {
  PathList list = list_of({"a", "b", "c", "x"});
  ASSERT_TRUE(sort_as_listed(list, {"d/x", "./c", "d", "d/x"}));
  EXPECT_THAT(paths(list), ElementsAre("d/x", "c", "a", "b"));
}

TEST(SortAsListed, NamesWhatIsNotThere) {
  PathList list = list_of({"a"});
  const auto sorted = sort_as_listed(list, {"a", "d/nothing"});
  ASSERT_FALSE(sorted);
  EXPECT_EQ(sorted.error().kind, ErrorKind::NotFound);
  EXPECT_TRUE(sorted.error().message.starts_with("d/nothing: "));
}

}  // namespace
}  // namespace shardfs
