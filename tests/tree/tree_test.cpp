#include "fs/tree/tree.h"

#include <algorithm>
#include <map>
#include <random>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/tree/built_tree.h"

namespace shardfs {
namespace {

using ::testing::ElementsAre;

/// A reference model: what children each directory has.
using Model = std::map<std::string, std::map<std::string, bool>>;

std::string joined(const std::string& directory, const std::string& name) {
  return directory.empty() ? name : directory + "/" + name;
}

void grow(Model& model, std::mt19937& random, const std::string& directory, int depth) {
  auto& children = model[directory];
  const std::string_view alphabets[] = {"0123456789abcdef", "abc", "0123456789",
                                        "\x01\x7f\x80\xff.-Z"};
  const std::string_view alphabet = alphabets[random() % 4];
  const std::size_t longest = random() % 4 == 0 ? 60 : 6;
  for (std::size_t i = random() % 70; i > 0; --i) {
    std::string name(1 + random() % longest, ' ');
    for (char& c : name) c = alphabet[random() % alphabet.size()];
    if (random() % 2) name += ".jpg";
    if (name == "." || name == "..") continue;
    children[name] = depth > 0 && random() % 8 == 0;
  }
  for (const auto& [name, is_directory] : children)
    if (is_directory) grow(model, random, joined(directory, name), depth - 1);
}

std::vector<Member> members_of(const Model& model) {
  std::vector<Member> members;
  for (const auto& [path, children] : model)
    for (const auto& [name, is_directory] : children)
      members.push_back(is_directory ? directory(joined(path, name)) : file(joined(path, name)));
  return members;
}

void expect_children(const Tree& tree, const std::string& path,
                     const std::map<std::string, bool>& expected) {
  const Entry entry = tree.find(path).value();
  const auto range = tree.child_range(entry).value();
  ASSERT_EQ(range.count, expected.size());
  std::vector<std::string> names;
  for (const auto& [name, is_directory] : expected) {
    const Entry child = tree.lookup(entry, name).value();
    EXPECT_EQ(child, range.first + names.size());
    EXPECT_EQ(tree.parent(child), entry);
    EXPECT_EQ(tree.path(child).value(), joined(path, name));
    EXPECT_EQ(tree.child_range(child).has_value(), is_directory);
    for (const std::string& miss : {name + "0", name.substr(1), name + "\xff", "\x01" + name}) {
      const auto found = tree.lookup(entry, miss);
      ASSERT_EQ(found.has_value(), expected.contains(miss)) << miss;
      if (!found) {
        EXPECT_EQ(found.error().kind, ErrorKind::NotFound);
      }
    }
    names.push_back(name);
  }
  EXPECT_EQ(names_in(tree, entry), names);
}

TEST(Tree, AgreesWithAModel) {
  for (unsigned seed = 0; seed < 30; ++seed) {
    std::mt19937 random(seed);
    Model model;
    grow(model, random, "", 3);
    std::vector<Member> members = members_of(model);
    std::ranges::shuffle(members, random);
    const BuiltTree built = build_tree(members);
    for (const auto& [path, children] : model) expect_children(built.tree, path, children);
  }
}

TEST(Tree, ListsFromAnyChildOnAndStopsWhenTold) {
  std::vector<Member> members;
  for (int i = 0; i < 100; ++i) members.push_back(file(fmt::format("{:03}", i)));
  const BuiltTree built = build_tree(members);
  for (std::uint64_t first = 0; first <= 100; ++first) {
    const auto names = names_in(built.tree, kRoot, first);
    ASSERT_EQ(names.size(), 100 - first);
    if (first < 100) {
      EXPECT_EQ(names[0], fmt::format("{:03}", first));
    }
  }
  EXPECT_TRUE(names_in(built.tree, kRoot, 101).empty());
  EXPECT_TRUE(names_in(built.tree, kRoot, ~std::uint64_t{0}).empty());
  int visits = 0;
  const auto stop = [&](Entry, std::string_view) { return ++visits < 20; };
  EXPECT_TRUE(built.tree.children(kRoot, 0, stop).has_value());
  EXPECT_EQ(visits, 20);
}

TEST(Tree, TellsWhatIsNoDirectory) {
  const BuiltTree built = build_tree({file("a"), symlink_to("b", "a"), directory("c")});
  for (const Entry entry : {1u, 2u, 99u, 0xffffffffu}) {
    EXPECT_EQ(built.tree.lookup(entry, "x").error().kind, ErrorKind::Invalid) << entry;
    EXPECT_EQ(built.tree.child_range(entry).error().kind, ErrorKind::Invalid) << entry;
  }
  EXPECT_EQ(built.tree.child_range(3).value().count, 0u);
  EXPECT_EQ(built.tree.lookup(3, "x").error().kind, ErrorKind::NotFound);
}

TEST(Tree, RefusesEntriesThatAreNone) {
  const BuiltTree built = build_tree({file("a")});
  for (const Entry entry : {2u, 0xffffffffu}) {
    EXPECT_EQ(built.tree.attributes(entry).error().kind, ErrorKind::Invalid);
    EXPECT_EQ(built.tree.inode(entry).error().kind, ErrorKind::Invalid);
    EXPECT_EQ(built.tree.path(entry).error().kind, ErrorKind::Invalid);
    EXPECT_EQ(built.tree.position(entry).error().kind, ErrorKind::Invalid);
  }
}

TEST(Tree, FindsByPathAndNothingElse) {
  const BuiltTree built = build_tree({file("a/b/c"), symlink_to("s", "a")});
  EXPECT_EQ(built.tree.find("").value(), kRoot);
  EXPECT_EQ(built.tree.path(built.tree.find("a/b/c").value()).value(), "a/b/c");
  for (const char* miss : {"x", "a/x", "a//b", "/a", "a/b/c/d", "s/b", ".", "a/.", "a/.."})
    EXPECT_FALSE(built.tree.find(miss).has_value()) << miss;
}

TEST(Tree, ResolvesSymlinksAsAMountWould) {
  const BuiltTree built = build_tree(
      {directory("a"), directory("a/b"), file("a/b/f"), symlink_to("a/abs", "/a/b/f"),
       symlink_to("a/l", "b/f"), symlink_to("a/out", "../../etc"), symlink_to("a/up", "../a/b"),
       symlink_to("chain", "a/up/f"), symlink_to("gone", "a/none"), symlink_to("loop", "loop")});
  const Tree& tree = built.tree;
  const Entry f = tree.find("a/b/f").value();
  for (const char* path : {"a/b/f", "/a/b/f", "a//b/./f", "a/l", "a/up/f", "chain", "a/b/../l"})
    EXPECT_EQ(tree.resolve(path).value(), f) << path;
  EXPECT_EQ(tree.resolve("").value(), kRoot);
  EXPECT_EQ(tree.resolve("a/up").value(), tree.find("a/b").value());
  for (const char* path : {"a/out", "a/abs", "..", "gone", "a/b/f/x", "none"})
    EXPECT_FALSE(tree.resolve(path)) << path;
  EXPECT_EQ(tree.resolve("loop").error().kind, ErrorKind::Invalid);
}

TEST(Tree, ParentSkipsEmptyDirectories) {
  const BuiltTree built = build_tree(
      {directory("a"), directory("b"), file("c/x"), directory("d"), file("e/y"), directory("f")});
  for (const char* path : {"a", "c", "f", "c/x", "e/y"}) {
    const Entry entry = built.tree.find(path).value();
    EXPECT_EQ(built.tree.path(entry).value(), path);
  }
  EXPECT_EQ(built.tree.parent(kRoot), kRoot);
}

TEST(Tree, CountsLinksOfDirectories) {
  const BuiltTree built =
      build_tree({directory("a/b"), directory("a/c"), file("a/f"), file("a/c/g"), directory("d")});
  const auto links = [&](const char* path) {
    return built.tree.attributes(built.tree.find(path).value()).value().links;
  };
  EXPECT_EQ(links(""), 4u);
  EXPECT_EQ(links("a"), 4u);
  EXPECT_EQ(links("a/b"), 2u);
  EXPECT_EQ(links("a/c"), 2u);
  EXPECT_EQ(links("a/f"), 1u);
}

void expect_attributes(const Attributes& a, const Member& member) {
  EXPECT_EQ(a.mode, member.mode) << member.path;
  EXPECT_EQ(a.uid, member.uid) << member.path;
  EXPECT_EQ(a.gid, member.gid) << member.path;
  EXPECT_EQ(a.mtime, member.mtime) << member.path;
  const bool device = S_ISCHR(member.mode) || S_ISBLK(member.mode);
  EXPECT_EQ(a.device_major, device ? member.device_major : 0) << member.path;
  EXPECT_EQ(a.device_minor, device ? member.device_minor : 0) << member.path;
  const std::uint64_t size = member.is_symlink()   ? member.link.size()
                             : member.is_regular() ? member.size
                                                   : 0;
  EXPECT_EQ(a.size, size) << member.path;
  EXPECT_EQ(a.stored, size) << member.path;
}

TEST(Tree, KeepsAttributes) {
  std::mt19937_64 random(1);
  const std::uint32_t types[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK};
  const std::int64_t seconds[] = {
      0, -1, INT64_MIN, INT64_MAX, 1'700'000'000, std::int64_t{1} << 34};
  const std::uint32_t ids[] = {0, 1000, 2'097'152, 0xfffffffe, 0xffffffff};
  const std::uint64_t sizes[] = {0, 1, 511, 512, 70'000, std::uint64_t{1} << 25};
  std::vector<Member> members;
  for (int i = 0; i < 1000; ++i) {
    Member member = file(fmt::format("{:04}", i), sizes[random() % 6]);
    member.mode = types[random() % 7] | random() % 010000;
    member.uid = ids[random() % 5];
    member.gid = ids[random() % 5];
    member.mtime = {seconds[random() % 6], static_cast<std::uint32_t>(random() % 1'000'000'000)};
    member.link = fmt::format("to/{}", random() % 20);
    member.device_major = static_cast<std::uint32_t>(random());
    member.device_minor = static_cast<std::uint32_t>(random());
    members.push_back(member);
  }
  const BuiltTree built = build_tree(members);
  for (const Member& member : members) {
    const Entry entry = built.tree.find(member.path).value();
    expect_attributes(built.tree.attributes(entry).value(), member);
    const auto link = built.tree.link(entry);
    ASSERT_EQ(link.has_value(), member.is_symlink());
    if (link) {
      EXPECT_EQ(*link, member.link);
    }
  }
}

TEST(Tree, KeepsSizesBeyondATebibyte) {
  TreeBuilder builder;
  const std::uint64_t size = (std::uint64_t{1} << 62) + 3;
  const Frames frames{{0, 1}, {0, 1}, {0}};
  builder.set_data(builder.add(file("a", size)).value(), 512, {});
  builder.set_data(builder.add(file("b", 5)).value(), 1024 + round_up(size, 512), {});
  auto parts = builder.finish(&frames, {}).value();
  const BuiltTree built = open_index(encode_index(parts.superblock, parts.sections));
  EXPECT_EQ(built.tree.attributes(1)->size, size);
  EXPECT_EQ(built.tree.position(2).value(), 1024 + round_up(size, 512));
}

TEST(Tree, KeepsPositionsInAnyOrderOfMembers) {
  std::mt19937 random(3);
  std::vector<Member> members;
  for (int i = 0; i < 2000; ++i) {
    const std::string path = fmt::format("{:02}/{:04}", i % 13, i);
    members.push_back(i % 50 == 0 ? symlink_to(path, "x") : file(path, random() % 3000 / 7 * 7));
  }
  for (const bool shuffled : {false, true}) {
    if (shuffled) std::ranges::shuffle(members, random);
    const BuiltTree built = build_tree(members);
    std::uint64_t position = 0;
    for (const Member& member : members) {
      position += 512;
      if (!member.is_regular() || member.size == 0) continue;
      EXPECT_EQ(built.tree.position(built.tree.find(member.path).value()).value(), position);
      position += round_up(member.size, 512);
    }
  }
}

TEST(Tree, PositionsInOrderCostNoBits) {
  std::vector<Member> members;
  for (int i = 0; i < 64 * 50 - 1; ++i) members.push_back(file(fmt::format("{:04}", i), i % 3000));
  const BuiltTree built = build_tree(members);
  EXPECT_EQ(built.index->section(Section::Positions).size(), 8 + 50 * 16 + 16u);
}

TEST(Tree, MovedOverridesThePosition) {
  auto parts = pack({file("a", 10), file("b", 10), hard_link_to("c", "b")}).value();
  Bytes moved;
  append<std::uint32_t>(moved, 2);
  append<std::uint32_t>(moved, 0);
  append<std::uint64_t>(moved, 123 * 512);
  parts.insert(Section::Moved, moved);
  const BuiltTree built = open_index(encode_index(parts.superblock, parts.sections));
  EXPECT_EQ(built.tree.position(1).value(), 512u);
  EXPECT_EQ(built.tree.position(2).value(), 123 * 512u);
  EXPECT_EQ(built.tree.position(3).value(), 123 * 512u);
}

TEST(Tree, KeepsExtendedAttributes) {
  const auto bytes = [](std::string_view text) {
    const auto span = as_bytes(text);
    return Bytes(span.begin(), span.end());
  };
  Member one = file("one"), two = file("two"), three = directory("three");
  one.xattrs = {{"user.a", bytes("1")}, {"user.b", bytes("")}, {"user.c", Bytes(65536)}};
  two.xattrs = one.xattrs;
  three.xattrs = {{"security.selinux", bytes(std::string_view("x\0", 2))}};
  const BuiltTree built = build_tree({one, two, three, file("none"), hard_link_to("h", "one")});
  for (const char* path : {"one", "two", "h"}) {
    const auto xattrs = built.tree.xattrs(built.tree.find(path).value()).value();
    ASSERT_EQ(xattrs.size(), 3u);
    EXPECT_EQ(xattrs[0].name, "user.a");
    EXPECT_EQ(as_text(xattrs[0].value), "1");
    EXPECT_EQ(xattrs[1].name, "user.b");
    EXPECT_TRUE(xattrs[1].value.empty());
    EXPECT_EQ(xattrs[2].value.size(), 65536u);
  }
  EXPECT_EQ(built.tree.xattrs(built.tree.find("three").value())->size(), 1u);
  EXPECT_TRUE(built.tree.xattrs(built.tree.find("none").value())->empty());
  EXPECT_EQ(built.index->section(Section::XattrOffsets).size(), 3 * 4u) << "equal sets kept twice";
}

TEST(Tree, KeepsHoles) {
  Member sparse = file("sparse", 1000), all = file("all", 5);
  sparse.holes = {{0, 100}, {200, 1}, {900, 100}};
  all.holes = {{0, 5}};
  const BuiltTree built = build_tree({sparse, all, file("none", 9), hard_link_to("h", "sparse")});
  const auto at = [&](const char* path) { return built.tree.find(path).value(); };
  EXPECT_EQ(built.tree.holes(at("sparse")).value(), sparse.holes);
  EXPECT_EQ(built.tree.holes(at("h")).value(), sparse.holes);
  EXPECT_EQ(built.tree.holes(at("all")).value(), all.holes);
  EXPECT_TRUE(built.tree.holes(at("none"))->empty());
  EXPECT_EQ(built.tree.attributes(at("sparse"))->stored, 799u);
  EXPECT_EQ(built.tree.attributes(at("all"))->stored, 0u);
  EXPECT_EQ(built.tree.attributes(at("none"))->stored, 9u);
}

TEST(Tree, EqualLinkTextsAreKeptOnce) {
  const BuiltTree built =
      build_tree({symlink_to("a", "same"), symlink_to("b", "same"), symlink_to("c", "other")});
  EXPECT_EQ(as_text(built.index->section(Section::Links)), "sameother");
}

std::string hex(ByteSpan bytes) {
  std::string text;
  for (const std::byte b : bytes) text += fmt::format("{:02x}", std::to_integer<unsigned>(b));
  return text;
}

// A shard that was written must be read for ever: if this fails, the format has changed, and its
// version in FORMAT.md must too.
TEST(Tree, GoldenBytes) {
  Member a = file("d/a.txt", 1000);
  a.mtime = {1'700'000'000, 123'456'789};
  a.uid = 1000;
  a.holes = {{512, 100}};
  a.xattrs = {{"user.k", Bytes{std::byte{'v'}}}};
  const Bytes index = pack_index(
      {directory("d"), a, hard_link_to("h", "d/a.txt"), symlink_to("s", "d/a.txt"), file("e")});
  EXPECT_EQ(hex(index),
            "534841524446530a01000000000300000000000000000000000000000000000001000000140000004005"
            "000000000000060000000000000002000000000000000200000000000000e80300000000000000000000"
            "000000000000000000000000000000000000000000000000000000000000000000000000010000000000"
            "000000030000000000002400000000000000456e24a7ca55ad4b02000000000000002803000000000000"
            "0c00000000000000a96fff0421205552030000000000000038030000000000001200000000000000225e"
            "8a107065d9a1050000000000000050030000000000005000000000000000c4e79db90983c2eb06000000"
            "00000000a0030000000000002b000000000000001340046a947cd2fd0700000000000000d00300000000"
            "000030000000000000009b2339eab488d2ae080000000000000000040000000000004000000000000000"
            "0486be28118dd077090000000000000040040000000000003d000000000000009634a1672a74d1ad0a00"
            "00000000000080040000000000002b00000000000000ab260898d169fd450b00000000000000b0040000"
            "00000000280000000000000088bbcc5c067e14b80c00000000000000d804000000000000080000000000"
            "00009543e14ea5da0a1d0d00000000000000e00400000000000007000000000000005577751e800f649c"
            "0e00000000000000e80400000000000008000000000000008c62b1d29610236f0f00000000000000f004"
            "00000000000008000000000000008ca7aa39aae9038e1000000000000000f80400000000000008000000"
            "00000000eba7a4a9b3fa0266110000000000000000050000000000000d00000000000000ce84467d4263"
            "72401200000000000000100500000000000010000000000000006c5c6b00aa38efc51300000000000000"
            "20050000000000001000000000000000794a63fecfca5755170000000000000030050000000000000800"
            "000000000000d9ac876fbb3a7bc71900000000000000380500000000000008000000000000005bcaf49c"
            "d551abee5882c25ff053a9d7000000000100000000000000010000000500000001000000ffffffff0600"
            "00000200000000000000000000000a000000120000000000000002000164016501680173070005612e74"
            "787400000000000000000000000000000000000000000000ed410000000000000000000000000000a481"
            "0000000000000000000000000000ffa10000000000000000000000000000a4810000e803000000000000"
            "000000000600000000000000000000000000000003000000000000008930020000000000000000000000"
            "00000000000000000000060000000000000000000000000000000a00000000000000000000000000a00f"
            "00000000000000000000000000000000060000000000000000000000000000801f000000000000000000"
            "00000000000000000000207eaa0c00000000889f2a030000000000000000000000000000000006000000"
            "0000000000000000000000001b00000000000000000000000000000000002a9ab70e0000808ae6ad0300"
            "000000000000000000000000000000000000060000000000000000000000000000000300000000000000"
            "000a000000000000000000000000000000000000000000000600000000000000fdffffffffffff7f0000"
            "000000000000000000000000000000000000000000000000000007000000642f612e7478740005000000"
            "020000000500000000000000000000000d000000060001000000757365722e6b76000000050000000000"
            "0000ffffffff010000000002000000000000640000000000000000000000000000000000000001000000");
}

}  // namespace
}  // namespace shardfs
