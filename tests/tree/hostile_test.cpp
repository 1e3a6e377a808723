// Indexes whose checksums hold and whose content does not: only the structure checks protect.
#include <random>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fs/base/checksum.h"
#include "fs/tree/names.h"
#include "tests/tree/built_tree.h"

namespace shardfs {
namespace {

constexpr std::size_t kTable = 120, kRow = 32;

/// Makes superblock and section checksums of a changed index hold again.
void seal_all(Bytes& index) {
  const std::size_t size = load<std::uint32_t>(index.data() + 12);
  if (size < 128 || size > index.size()) return;
  const ByteSpan all(index);
  for (std::size_t row = kTable; row + kRow <= size - 8; row += kRow) {
    const auto offset = load<std::uint64_t>(index.data() + row + 8);
    const auto length = load<std::uint64_t>(index.data() + row + 16);
    if (offset <= all.size() && length <= all.size() - offset)
      store(index.data() + row + 24, checksum64(all.subspan(offset, length)));
  }
  store(index.data() + size - 8, checksum64(all.first(size - 8)));
}

void expect_sane(const Error& error) {
  EXPECT_TRUE(error.kind == ErrorKind::Corrupt || error.kind == ErrorKind::Invalid ||
              error.kind == ErrorKind::NotFound || error.kind == ErrorKind::Unsupported)
      << error.message;
  EXPECT_FALSE(error.message.empty());
}

template <typename T>
bool sane(const Result<T>& result) {
  if (!result) expect_sane(result.error());
  return result.has_value();
}

void walk_entry(const Tree& tree, Entry entry) {
  if (const auto a = tree.attributes(entry); sane(a)) {
    EXPECT_LT(a->inode, tree.entries());
    EXPECT_LE(a->stored, a->size);
    EXPECT_LT(a->mtime.nanoseconds, 1'000'000'000u);
  }
  if (const auto path = tree.path(entry); sane(path)) {
    EXPECT_LE(path->size(), kMaxPath);
    if (const auto found = tree.find(*path); sane(found)) {
      EXPECT_LT(*found, tree.entries());
    }
  }
  EXPECT_LT(tree.parent(entry), tree.entries());
  if (const auto text = tree.link(entry); sane(text)) {
    EXPECT_LE(text->size(), kMaxPath);
  }
  if (const auto xattrs = tree.xattrs(entry); sane(xattrs)) {
    for (const Xattr& x : *xattrs) EXPECT_NE(checksum64(x.value), 0u);  // reads it all
  }
  sane(tree.holes(entry));
  sane(tree.position(entry));
}

void walk_directory(const Tree& tree, Entry directory) {
  const auto range = tree.child_range(directory);
  if (!sane(range)) return;
  std::uint64_t visits = 0;
  sane(tree.children(directory, 0, [&](Entry child, std::string_view name) {
    EXPECT_TRUE(is_valid_name(name));
    EXPECT_LT(child, tree.entries());
    if (const auto found = tree.lookup(directory, name); sane(found)) {
      EXPECT_LT(*found, tree.entries());
    }
    return ++visits < 10000;
  }));
  EXPECT_LE(visits, range->count);
  sane(tree.lookup(directory, "no such name"));
}

/// Uses all of a tree that may be anything.
void walk(Bytes bytes) {
  const auto index = Index::decode(std::move(bytes));
  if (!sane(index)) return;
  const auto tree = Tree::open(*index);
  if (!sane(tree)) return;
  const std::uint64_t end = std::min<std::uint64_t>(tree->entries(), 10000);
  for (Entry e = 0; e < end; ++e) {
    walk_entry(*tree, e);
    walk_directory(*tree, e);
  }
}

Bytes small_index() {
  Member sparse = file("d/sparse.jpg", 100000);
  sparse.holes = {{0, 4096}, {8192, 4096}};
  sparse.xattrs = {{"user.a", Bytes(3)}, {"user.b", Bytes(2)}};
  sparse.mtime = {1'700'000'000, 123'456'789};
  Member device = file("d/null");
  device.mode = S_IFCHR | 0666;
  device.device_major = 1;
  device.device_minor = 3;
  std::vector<Member> members = {directory("d"),
                                 sparse,
                                 device,
                                 hard_link_to("h", "d/sparse.jpg"),
                                 symlink_to("s", "d/sparse.jpg"),
                                 directory("e/f")};
  for (int i = 0; i < 40; ++i) {
    members.push_back(file(fmt::format("e/f/{:02x}ab.png", i * 5), i * 100));
    members.back().mtime = {1'600'000'000 + i, static_cast<std::uint32_t>(i) * 1'000'003};
  }
  auto parts = pack(members).value();
  Bytes moved;
  append<std::uint32_t>(moved, 9);
  append<std::uint32_t>(moved, 0);
  append<std::uint64_t>(moved, 1 << 20);
  parts.insert(Section::Moved, moved);
  return encode_index(parts.superblock, parts.sections);
}

TEST(Hostile, EveryFlippedBitIsWithstood) {
  const Bytes whole = small_index();
  walk(whole);
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      Bytes bytes = whole;
      bytes[at] ^= std::byte(1 << bit);
      seal_all(bytes);
      walk(std::move(bytes));
    }
  }
}

TEST(Hostile, ExtremeNumbersAreWithstood) {
  const Bytes whole = small_index();
  for (std::size_t at = 0; at + 4 <= whole.size(); at += 4) {
    for (const std::uint32_t number :
         {0u, 1u, 0x7fffffffu, 0x80000000u, 0xfffffffeu, 0xffffffffu}) {
      Bytes bytes = whole;
      store(bytes.data() + at, number);
      seal_all(bytes);
      walk(std::move(bytes));
    }
  }
}

TEST(Hostile, RandomChangesAreWithstood) {
  const Bytes whole = small_index();
  std::mt19937 random(1);
  for (int i = 0; i < 5000; ++i) {
    Bytes bytes = whole;
    for (int k = random() % 6; k >= 0; --k) {
      const std::size_t at = 128 + random() % (bytes.size() - 128);
      bytes[at] = std::byte(random() % 4 == 0 ? 0xff : random());
    }
    seal_all(bytes);
    walk(std::move(bytes));
  }
}

TEST(Hostile, EverySectionMayBeMissing) {
  const auto index = Index::decode(small_index()).value();
  for (std::uint32_t missing = 1; missing < kSections; ++missing) {
    Superblock superblock = index.superblock;
    std::vector<std::pair<Section, Bytes>> sections;
    for (std::uint32_t s = 1; s < kSections; ++s) {
      const ByteSpan bytes = index.section(static_cast<Section>(s));
      if (s != missing && !bytes.empty())
        sections.emplace_back(static_cast<Section>(s), Bytes(bytes.begin(), bytes.end()));
    }
    walk(encode_index(superblock, sections));
  }
}

/// An index with `name` in place of "aaaa", the only file's name.
Bytes index_with_name(std::string_view name) {
  Bytes index = pack_index({file("xxxx")});
  const std::string_view all = as_text(index);
  store(index.data() + all.find("xxxx"), load<std::uint32_t>(as_bytes(name).data()));
  seal_all(index);
  return index;
}

TEST(Hostile, ImpossibleNamesAreCorrupt) {
  using namespace std::string_view_literals;
  for (const std::string_view name : {"a/bc"sv, "abc\0"sv, "/abc"sv, "../x"sv}) {
    const BuiltTree built = open_index(index_with_name(name));
    const auto listed = built.tree.children(kRoot, 0, [](Entry, std::string_view) { return true; });
    ASSERT_FALSE(listed.has_value()) << name;
    EXPECT_EQ(listed.error().kind, ErrorKind::Corrupt);
    EXPECT_EQ(built.tree.path(1).error().kind, ErrorKind::Corrupt);
    EXPECT_FALSE(built.tree.lookup(kRoot, name).has_value());
  }
  const BuiltTree fine = open_index(index_with_name("abcd"));
  EXPECT_EQ(fine.tree.path(1).value(), "abcd");
}

/// An index of `members` with the 4-byte number at `at` in section `s` set to `number`.
Bytes changed(const std::vector<Member>& members, Section s, std::size_t at, std::uint32_t number) {
  Bytes bytes = pack_index(members);
  const std::size_t size = load<std::uint32_t>(bytes.data() + 12);
  const auto superblock = Superblock::decode(ByteSpan(bytes).first(size)).value();
  store(bytes.data() + superblock.place(s).offset + at, number);
  seal_all(bytes);
  return bytes;
}

bool opens(const Bytes& bytes) {
  const auto index = Index::decode(bytes);
  EXPECT_TRUE(index.has_value());
  return index && Tree::open(*index).has_value();
}

TEST(Hostile, ADirectoryInsideItselfIsRefused) {
  const std::vector<Member> members = {directory("a"), file("a/b"), file("c")};
  // Entries: root 0, a 1, c 2, a/b 3. Directory 1 (a) as entry 3 would be its own child.
  EXPECT_TRUE(opens(changed(members, Section::Directories, 12, 1)));
  EXPECT_FALSE(opens(changed(members, Section::Directories, 12, 3)));
  EXPECT_FALSE(opens(changed(members, Section::Directories, 12, 0)));
}

TEST(Hostile, DirectoriesThatAreFilesAreRefused) {
  const std::vector<Member> members = {directory("a"), file("a/b"), file("c")};
  EXPECT_FALSE(opens(changed(members, Section::Directories, 12, 2)));
}

TEST(Hostile, ImpossibleAttributesAreRefused) {
  const std::vector<Member> members = {file("a")};
  EXPECT_FALSE(opens(changed(members, Section::Attributes, 16, 0)));  // no type
  EXPECT_FALSE(
      opens(changed(members, Section::Attributes, 16, 0xff000000)));  // more than mode bits
  EXPECT_FALSE(opens(changed(members, Section::Attributes, 28, 1)));  // reserved
  EXPECT_FALSE(opens(changed(members, Section::Attributes, 0, 1)));   // tuple 0
}

TEST(Hostile, ALinkTextWithNulIsCorrupt) {
  Bytes bytes = changed({symlink_to("a", "text")}, Section::Links, 0, 0);
  const BuiltTree built = open_index(std::move(bytes));
  EXPECT_EQ(built.tree.link(1).error().kind, ErrorKind::Corrupt);
  EXPECT_EQ(built.tree.attributes(1).error().kind, ErrorKind::Corrupt);
}

}  // namespace
}  // namespace shardfs
