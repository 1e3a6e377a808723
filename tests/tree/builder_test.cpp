#include "fs/tree/builder.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/tree/built_tree.h"

namespace shardfs {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// The message of the Invalid error that packing ends with.
std::string refused(const std::vector<Member>& members) {
  const auto parts = pack(members);
  EXPECT_FALSE(parts.has_value());
  if (parts) return "packed";
  EXPECT_EQ(parts.error().kind, ErrorKind::Invalid);
  return parts.error().message;
}

std::uint64_t size_of(const Tree& tree, std::string_view path) {
  return tree.attributes(tree.find(path).value()).value().size;
}

Entry inode_of(const Tree& tree, std::string_view path) {
  return tree.inode(tree.find(path).value()).value();
}

TEST(Builder, AnEmptyArchiveIsARoot) {
  const BuiltTree built = build_tree({});
  EXPECT_EQ(built.tree.entries(), 1u);
  const auto root = built.tree.attributes(kRoot).value();
  EXPECT_EQ(root.mode, S_IFDIR | 0755u);
  EXPECT_EQ(root.links, 2u);
  EXPECT_THAT(names_in(built.tree, kRoot), ElementsAre());
}

TEST(Builder, OrdersEntriesBreadthFirstAndByBytes) {
  const BuiltTree built =
      build_tree({file("b/y"), file("b/x/1"), file("z"), file("\xff"), file("B"), file("a/0")});
  EXPECT_THAT(all_paths(built.tree),
              ElementsAre("", "B", "a", "b", "z", "\xff", "a/0", "b/x", "b/y", "b/x/1"));
}

TEST(Builder, MakesUpMissingParents) {
  Member member = file("a/b/c");
  member.uid = 7;
  member.gid = 8;
  member.mtime = {-5, 6};
  const BuiltTree built = build_tree({member});
  for (const char* path : {"", "a", "a/b"}) {
    const auto made_up = built.tree.attributes(built.tree.find(path).value()).value();
    EXPECT_EQ(made_up.mode, S_IFDIR | 0755u);
    EXPECT_EQ(made_up.uid, 7u);
    EXPECT_EQ(made_up.gid, 8u);
    EXPECT_EQ(made_up.mtime, (Time{-5, 6}));
  }
}

TEST(Builder, TakesADirectoryThatComesAfterItsChildren) {
  Member late = directory("a");
  late.mode = S_IFDIR | 0700;
  const BuiltTree built = build_tree({file("a/b"), late});
  EXPECT_EQ(built.tree.attributes(built.tree.find("a").value())->mode, S_IFDIR | 0700u);
}

TEST(Builder, TheRootsAttributesMayBeGiven) {
  Member root = directory("");
  root.mode = S_IFDIR | 01777;
  root.xattrs = {{"user.a", Bytes(3)}};
  const BuiltTree built = build_tree({file("x"), root});
  EXPECT_EQ(built.tree.attributes(kRoot)->mode, S_IFDIR | 01777u);
  EXPECT_EQ(built.tree.xattrs(kRoot)->size(), 1u);
}

TEST(Builder, TheLastMemberOfAPathWins) {
  const BuiltTree built =
      build_tree({file("a/x", 1), file("y"), file("a/x", 200000), file("a/x", 3)});
  EXPECT_THAT(all_paths(built.tree), ElementsAre("", "a", "y", "a/x"));
  EXPECT_EQ(size_of(built.tree, "a/x"), 3u);
  EXPECT_EQ(built.index->superblock.files, 2u);
  EXPECT_EQ(built.index->superblock.file_bytes, 3u);
}

TEST(Builder, DirectoriesOfOnePathMerge) {
  Member first = directory("a"), last = directory("a");
  last.mode = S_IFDIR | 0711;
  const BuiltTree built = build_tree({first, file("a/x"), last, file("a/y")});
  EXPECT_THAT(names_in(built.tree, built.tree.find("a").value()), ElementsAre("x", "y"));
  EXPECT_EQ(built.tree.attributes(built.tree.find("a").value())->mode, S_IFDIR | 0711u);
}

TEST(Builder, AFileMayReplaceAnEmptyDirectoryAndTheOtherWay) {
  const BuiltTree built =
      build_tree({directory("a"), file("a", 5), file("b", 5), directory("b"), file("b/c")});
  EXPECT_EQ(size_of(built.tree, "a"), 5u);
  EXPECT_THAT(all_paths(built.tree), ElementsAre("", "a", "b", "b/c"));
  EXPECT_EQ(built.index->superblock.directories, 2u);
}

TEST(Builder, RefusesAFileOverADirectoryWithFilesInIt) {
  EXPECT_THAT(refused({file("d/a/x"), file("d/a")}), HasSubstr("d/a: members"));
  EXPECT_THAT(refused({directory("a"), file("a/x"), symlink_to("a", "/etc")}),
              HasSubstr("a: members lie in it, but"));
}

TEST(Builder, RefusesAChildOfWhatIsNoDirectory) {
  EXPECT_THAT(refused({file("d/a"), file("d/a/x")}), HasSubstr("d/a: members lie in it"));
  EXPECT_THAT(refused({symlink_to("a", "/etc"), file("a/passwd")}), HasSubstr("a: members"));
  EXPECT_THAT(refused({file("x"), hard_link_to("a", "x"), file("a/b")}), HasSubstr("a: members"));
}

TEST(Builder, RefusesPathsThatAreNotPlain) {
  for (const char* path : {"/a", "a/", "a//b", ".", "..", "a/..", "../a", "./a", "a/./b", "/"})
    EXPECT_THAT(refused({file(path)}), HasSubstr("not a relative path")) << path;
  EXPECT_THAT(refused({file(std::string("a\0b", 3))}), HasSubstr("not a relative path"));
  EXPECT_THAT(refused({file(std::string(256, 'a'))}), HasSubstr("255"));
  EXPECT_THAT(refused({file("")}), HasSubstr("not a directory"));
}

TEST(Builder, TakesTheLongestNamesAndPaths) {
  std::string path;
  while (path.size() < 4096 - 256) path += std::string(255, 'd') + "/";
  path += std::string(4095 - path.size(), 'f');
  ASSERT_EQ(path.size(), 4095u);
  const BuiltTree built = build_tree({file(path)});
  const Entry entry = built.tree.find(path).value();
  EXPECT_EQ(built.tree.path(entry).value(), path);
  EXPECT_THAT(refused({file(path + "x")}), HasSubstr("4,095"));
}

TEST(Builder, TakesTheDeepestTree) {
  std::string path = "a";
  while (path.size() < 4095) path += "/a";
  ASSERT_EQ(path.size(), 4095u);
  const BuiltTree built = build_tree({file(path)});
  EXPECT_EQ(built.tree.entries(), 2049u);
  EXPECT_EQ(built.tree.path(2048).value(), path);
  EXPECT_EQ(built.tree.find(path).value(), 2048u);
}

TEST(Builder, RefusesImpossibleMembers) {
  Member member = file("a");
  member.mode = 0644;
  EXPECT_THAT(refused({member}), HasSubstr("type"));
  member = file("a");
  member.mtime.nanoseconds = 1'000'000'000;
  EXPECT_THAT(refused({member}), HasSubstr("time"));
  member = file("a");
  member.holes = {{0, 5}};
  EXPECT_THAT(refused({member}), HasSubstr("holes"));
  member = file("a");
  member.xattrs = {{"b", {}}, {"a", {}}};
  EXPECT_THAT(refused({member}), HasSubstr("attribute"));
  EXPECT_THAT(refused({symlink_to("a", std::string("x\0y", 3))}), HasSubstr("link"));
  EXPECT_THAT(refused({symlink_to("a", std::string(4096, 'x'))}), HasSubstr("link"));
}

TEST(Builder, RefusesAFileWhoseDataWasNotAdded) {
  TreeBuilder builder;
  ASSERT_TRUE(builder.add(file("a/b", 10)).has_value());
  const auto parts = builder.finish(nullptr, {});
  ASSERT_FALSE(parts.has_value());
  EXPECT_THAT(parts.error().message, HasSubstr("a/b"));
}

TEST(Builder, HardLinksShareAnInode) {
  const BuiltTree built = build_tree(
      {file("a/x", 5), hard_link_to("b/y", "a/x"), hard_link_to("c", "b/y"), file("z", 6)});
  const Entry inode = built.tree.find("a/x").value();
  for (const char* path : {"a/x", "b/y", "c"}) {
    const auto attributes = built.tree.attributes(built.tree.find(path).value()).value();
    EXPECT_EQ(attributes.inode, inode) << path;
    EXPECT_EQ(attributes.links, 3u) << path;
    EXPECT_EQ(attributes.size, 5u) << path;
  }
  EXPECT_EQ(built.tree.attributes(built.tree.find("z").value())->links, 1u);
  EXPECT_EQ(built.index->superblock.files, 2u);
  EXPECT_EQ(built.index->superblock.file_bytes, 11u);
}

TEST(Builder, AHardLinkMayComeBeforeItsTarget) {
  const BuiltTree built =
      build_tree({hard_link_to("a", "b"), hard_link_to("b", "c/d"), file("c/d", 9)});
  EXPECT_EQ(inode_of(built.tree, "a"), built.tree.find("c/d").value());
  EXPECT_EQ(inode_of(built.tree, "b"), built.tree.find("c/d").value());
}

TEST(Builder, AHardLinkToASymlinkIsOne) {
  const BuiltTree built = build_tree({symlink_to("s", "text"), hard_link_to("h", "s")});
  EXPECT_EQ(built.tree.link(built.tree.find("h").value()).value(), "text");
  EXPECT_EQ(built.tree.attributes(built.tree.find("s").value())->links, 2u);
}

TEST(Builder, RefusesHardLinksThatLeadNowhere) {
  EXPECT_THAT(refused({hard_link_to("a", "missing")}),
              HasSubstr("a: hard link to missing, which is not in the archive"));
  EXPECT_THAT(refused({hard_link_to("a", "no/such")}), HasSubstr("not in the archive"));
  EXPECT_THAT(refused({hard_link_to("a", "")}), HasSubstr("not in the archive"));
  EXPECT_THAT(refused({hard_link_to("a", "../x"), file("x")}), HasSubstr("not in the archive"));
  EXPECT_THAT(refused({hard_link_to("a", "a")}), HasSubstr("not in the archive"));
  EXPECT_THAT(refused({hard_link_to("a", "b"), hard_link_to("b", "a")}), HasSubstr("itself"));
  EXPECT_THAT(refused({hard_link_to("a", "b"), hard_link_to("b", "c"), hard_link_to("c", "a")}),
              HasSubstr("itself"));
  EXPECT_THAT(refused({directory("d"), hard_link_to("a", "d")}), HasSubstr("a directory"));
  EXPECT_THAT(refused({file("d/x"), hard_link_to("a", "d")}), HasSubstr("a directory"));
}

TEST(Builder, AHardLinkLeadsToTheMemberThatHadThePathThen) {
  const BuiltTree built =
      build_tree({file("x", 1), hard_link_to("first", "x"), file("x", 2),
                  hard_link_to("second", "x"), file("x", 3), hard_link_to("again", "first")});
  EXPECT_EQ(size_of(built.tree, "first"), 1u);
  EXPECT_EQ(size_of(built.tree, "second"), 2u);
  EXPECT_EQ(size_of(built.tree, "x"), 3u);
  EXPECT_EQ(inode_of(built.tree, "again"), built.tree.find("first").value());
  EXPECT_EQ(built.tree.attributes(built.tree.find("x").value())->links, 1u);
  EXPECT_EQ(built.tree.attributes(built.tree.find("again").value())->links, 2u);
  EXPECT_EQ(built.index->superblock.files, 3u);
}

TEST(Builder, AHardLinkOfAFileToItselfKeepsTheFile) {
  const BuiltTree built = build_tree({file("x", 7), hard_link_to("x", "x")});
  EXPECT_EQ(size_of(built.tree, "x"), 7u);
  EXPECT_EQ(built.tree.attributes(1)->links, 1u);
}

TEST(Builder, LongChainsOfForwardLinksTakeLinearTime) {
  std::vector<Member> members;
  constexpr int kLinks = 50000;
  for (int i = 0; i < kLinks; ++i)
    members.push_back(hard_link_to(fmt::format("{:06}", i), fmt::format("{:06}", i + 1)));
  members.push_back(file(fmt::format("{:06}", kLinks), 1));
  const BuiltTree built = build_tree(members);
  EXPECT_EQ(built.tree.attributes(1)->links, kLinks + 1u);
}

TEST(Builder, TellsTheEntriesOfWantedMembers) {
  const std::vector<std::uint32_t> wanted = {2, 0, 1};
  const auto parts = pack({file("z/a"), file("b"), file("m"), file("b")}, wanted).value();
  EXPECT_THAT(parts.wanted, ElementsAre(2u, 4u, 0xffffffffu));
}

TEST(Builder, SectionsAreInOrderAndAddUp) {
  auto parts = pack({file("a", 100), symlink_to("b", "a")}).value();
  parts.insert(Section::Moved, Bytes(16));
  EXPECT_TRUE(std::ranges::is_sorted(parts.sections, {}, [](const auto& s) { return s.first; }));
  const std::uint64_t size = parts.index_size();
  EXPECT_EQ(encode_index(parts.superblock, parts.sections).size(), size);
}

TEST(Builder, TheIndexDependsOnTheMembersOnly) {
  std::vector<Member> members = {directory("")};
  for (int i = 0; i < 11; ++i) members.push_back(directory(std::to_string(i)));
  for (int i = 0; i < 500; ++i) {
    Member member = file(fmt::format("{}/{:04}.bin", i % 7, i * 37 % 500));
    member.uid = i % 3;
    member.xattrs = {{"user.k", Bytes(i % 5)}};
    members.push_back(member);
    members.push_back(symlink_to(fmt::format("{}/l{:04}", i % 11, i), std::to_string(i % 9)));
  }
  const Bytes index = pack_index(members);
  EXPECT_EQ(pack_index(members), index);
  // Without data there are no positions, so that not even the order matters.
  std::ranges::reverse(members);
  EXPECT_EQ(pack_index(members), index);
}

TEST(Builder, FramesAreKept) {
  TreeBuilder builder;
  const auto number = builder.add(file("a", 100000)).value();
  builder.set_data(number, 512, {});
  const Frames frames{{0, 90, 200}, {0, 65536, 102400}, {11, 22}};
  auto parts = builder.finish(&frames, {}).value();
  const auto index = Index::decode(encode_index(parts.superblock, parts.sections)).value();
  EXPECT_EQ(index.superblock.container, Container::TarZst);
  const auto offsets = PackedColumn::open(index.section(Section::FrameOffsets), 3).value();
  const auto positions = PackedColumn::open(index.section(Section::FramePositions), 3).value();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(offsets[i], frames.offsets[i]);
    EXPECT_EQ(positions[i], frames.positions[i]);
  }
  EXPECT_EQ(load<std::uint64_t>(index.section(Section::Checksums).data() + 8), 22u);
  EXPECT_TRUE(index.section(Section::PieceBases).empty());
}

TEST(Builder, PiecesAreKeptInEntryOrder) {
  // Added against entry order, so that numbers and entries differ.
  const BuiltTree built =
      build_tree({file("z", 65537), file("y", 0), file("b", 65536), file("a", 1)});
  const ByteSpan checksums = built.index->section(Section::Checksums);
  std::vector<std::uint64_t> pieces;
  for (std::size_t i = 0; i < checksums.size(); i += 8)
    pieces.push_back(load<std::uint64_t>(checksums.data() + i));
  EXPECT_THAT(pieces, ElementsAre(piece_of(3, 0), piece_of(2, 0), piece_of(0, 0), piece_of(0, 1)));
  EXPECT_EQ(built.index->section(Section::PieceBases).size(), 8u);
}

TEST(Builder, ReplacedFilesDataAreListedAsDropped) {
  const BuiltTree built = build_tree({file("x", 10), file("y", 600), file("y", 70000), file("x", 3),
                                      file("z", 20), hard_link_to("h", "z"), file("z", 30)});
  // x at 512, y at 1,536; z's first data live on as h.
  const ByteSpan dropped = built.index->section(Section::Dropped);
  std::vector<std::uint64_t> numbers;
  for (std::size_t i = 0; i < dropped.size(); i += 8)
    numbers.push_back(load<std::uint64_t>(dropped.data() + i));
  EXPECT_THAT(numbers, ElementsAre(512u, 10u, 1536u, 600u));
  EXPECT_EQ(size_of(built.tree, "h"), 20u);
  // h, x, y (two pieces) and z, then those dropped.
  const ByteSpan checksums = built.index->section(Section::Checksums);
  EXPECT_EQ(checksums.size(), 7 * 8u);
}

TEST(Builder, PieceBasesCountGroupsOf64Entries) {
  std::vector<Member> members;
  for (int i = 0; i < 200; ++i) members.push_back(file(fmt::format("{:03}", i), i * 1000));
  const BuiltTree built = build_tree(members);
  const ByteSpan bases = built.index->section(Section::PieceBases);
  ASSERT_EQ(bases.size(), 8 * 4u);
  std::uint64_t pieces = 0;
  for (Entry e = 0; e < built.tree.entries(); ++e) {
    if (e % 64 == 0) {
      EXPECT_EQ(load<std::uint64_t>(bases.data() + e / 64 * 8), pieces);
    }
    pieces += (built.tree.file_size(e) + 65535) / 65536;
  }
  EXPECT_EQ(built.index->section(Section::Checksums).size(), pieces * 8);
}

/// The entries of a copy's index, by the numbers that stay.
std::pair<BuiltTree, StableNumbers> so_far(const TreeBuilder& builder) {
  TreeBuilder copy = builder;
  StableNumbers numbers;
  IndexParts parts = copy.finish(nullptr, {}, &numbers).value();
  return {open_index(encode_index(parts.superblock, parts.sections)), numbers};
}

TEST(Builder, ACopyIsAnIndexOfWhatHasBeenAddedAndTheOriginalGoesOn) {
  TreeBuilder builder;
  const std::uint32_t first = builder.add(file("b/first", 0)).value();
  const auto [early, early_numbers] = so_far(builder);
  EXPECT_THAT(all_paths(early.tree), ElementsAre("", "b", "b/first"));
  const std::uint32_t second = builder.add(file("a", 0)).value();
  ASSERT_TRUE(builder.add(file("b/early", 0)));
  ASSERT_TRUE(builder.add(directory("b")));
  const auto [late, late_numbers] = so_far(builder);
  EXPECT_THAT(all_paths(late.tree), ElementsAre("", "a", "b", "b/early", "b/first"));
  EXPECT_EQ(early.tree.path(early_numbers.members[first]), "b/first");
  EXPECT_EQ(late.tree.path(late_numbers.members[first]), "b/first");
  EXPECT_EQ(late.tree.path(late_numbers.members[second]), "a");
  for (const auto& [built, numbers] : {std::pair(&early, &early_numbers), {&late, &late_numbers}}) {
    EXPECT_EQ(built->tree.path(numbers->directories[0]), "");
    EXPECT_EQ(built->tree.path(numbers->directories[1]), "b");
  }
  EXPECT_EQ(late_numbers.members[3], StableNumbers::kNoEntry) << "a directory has one number";
}

TEST(Builder, AMemberThatIsReplacedHasNoEntryAnyMore) {
  TreeBuilder builder;
  const std::uint32_t first = builder.add(file("twice", 0)).value();
  const std::uint32_t second = builder.add(file("twice", 0)).value();
  const auto [built, numbers] = so_far(builder);
  EXPECT_EQ(numbers.members[first], StableNumbers::kNoEntry);
  EXPECT_EQ(built.tree.path(numbers.members[second]), "twice");
}

}  // namespace
}  // namespace shardfs
