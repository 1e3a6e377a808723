// Damage is an error, never other bytes; and `verify` sees all of it.
#include <gmock/gmock.h>

#include "fs/base/checksum.h"
#include "tests/archive/packed.h"

namespace shardfs::testing {
namespace {

class Damage : public ::testing::TestWithParam<Container> {};
INSTANTIATE_TEST_SUITE_P(Both, Damage, ::testing::Values(Container::Tar, Container::TarZst),
                         name_of);

std::vector<File> small_tree() {
  return {directory(""),
          directory("d"),
          file("d/a", text("the first file\n")),
          file("d/b", noise(1100, 1)),
          hard_link("d/c", "d/b"),
          symlink("d/l", "a"),
          file("z", noise(700, 2))};
}

/// Every read gives what was packed or an error.
void expect_no_wrong_byte(const Archive& archive, const std::vector<File>& files) {
  for (const File& f : files) {
    const auto entry = archive.tree().find(f.member.path);
    if (!entry) continue;
    const auto bytes = contents(archive, *entry);
    if (bytes && f.member.is_regular()) {
      ASSERT_EQ(*bytes, f.data) << f.member.path;
    }
    const auto link = archive.tree().link(*entry);
    if (link && f.member.is_symlink()) {
      ASSERT_EQ(*link, f.member.link);
    }
  }
}

TEST_P(Damage, OfAnyByteIsNoticed) {
  const auto files = small_tree();
  const Bytes good = pack(files, options(GetParam()));
  TemporaryFile shard(good);
  std::mt19937 random(11);
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (const unsigned bit : {0u, 1 + static_cast<unsigned>(random() % 7)}) {
      const Bytes bad = {good[i] ^ std::byte(1u << bit)};
      shard.write(i, bad);
      const auto archive = shard.open();
      if (!archive) {
        ASSERT_THAT(archive.error().message, ::testing::StartsWith(shard.path()));
        continue;
      }
      SCOPED_TRACE(i);
      expect_no_wrong_byte(**archive, files);
      const auto report = (*archive)->verify(1, {});
      ASSERT_TRUE(!report || !report->ok()) << "byte " << i << " bit " << bit;
    }
    shard.write(i, ByteSpan(good).subspan(i, 1));
  }
  ASSERT_TRUE(shard.open());
}

TEST_P(Damage, CutAnywhere) {
  const auto files = small_tree();
  const Bytes good = pack(files, options(GetParam()));
  TemporaryFile shard(good);
  for (std::size_t size = good.size(); size-- > 0;) {
    shard.resize(size);
    const auto archive = shard.open();
    if (!archive) continue;
    // Of a .tar's closing zeros one byte is enough to open it.
    ASSERT_EQ(GetParam(), Container::Tar);
    ASSERT_GT(size, good.size() - 10240);
    expect_no_wrong_byte(**archive, files);
    ASSERT_FALSE((*archive)->verify(1, {})->ok()) << size;
  }
}

TEST_P(Damage, ZerosBehindTheEnd) {
  const auto files = small_tree();
  const Bytes good = pack(files, options(GetParam()));
  for (const std::size_t more : {1u, 511u, 512u, 10240u, 40000u, 70000u, 1000000u}) {
    TemporaryFile shard(good);
    shard.resize(good.size() + more);
    const auto archive = shard.open();
    if (GetParam() == Container::TarZst || more > 65536) {
      ASSERT_FALSE(archive) << more;
      continue;
    }
    ASSERT_TRUE(archive) << archive.error().message;
    expect_no_wrong_byte(**archive, files);
    EXPECT_FALSE((*archive)->verify(1, {})->ok());
  }
}

TEST_P(Damage, IsNamedByFileAndPlace) {
  const Bytes data = noise(200000, 4);
  const Bytes good =
      pack({directory("d"), file("d/hit", data), file("z", text("z"))}, options(GetParam()));
  TemporaryFile shard(good);
  const auto before = shard.open();
  const auto extents = (*before)->extents(*(*before)->tree().find("d/hit"));
  ASSERT_TRUE(extents);
  const std::uint64_t at =
      GetParam() == Container::Tar ? extents->front().offset + 131072 : (*extents)[2].offset + 100;
  shard.write(at, Bytes{good[at] ^ std::byte{4}});

  const auto archive = shard.open();
  const Entry hit = *(*archive)->tree().find("d/hit");
  Bytes out(131072);
  EXPECT_TRUE((*archive)->read(hit, 0, out, nullptr)) << "pieces before the damage are good";
  EXPECT_EQ(out, Bytes(data.begin(), data.begin() + 131072));
  const auto bad = (*archive)->read(hit, 131072, out, nullptr);
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().kind, ErrorKind::Corrupt);
  const std::uint64_t place = GetParam() == Container::Tar ? at : (*extents)[2].offset;
  EXPECT_THAT(bad.error().message, ::testing::StartsWith(shard.path() + ": d/hit: damaged ("));
  EXPECT_THAT(bad.error().message,
              ::testing::HasSubstr("byte " + std::to_string(place) + " of " + shard.path()));
  EXPECT_TRUE(contents(**archive, "z")) << "other files are not hit";

  const auto report = (*archive)->verify(2, {});
  ASSERT_TRUE(report);
  ASSERT_EQ(report->bad.size(), 1u);
  EXPECT_EQ(report->bad[0].path, "d/hit");
  EXPECT_EQ(report->bad[0].offset, place);
}

TEST_P(Damage, AFileCutWhileInUse) {
  const Bytes good = pack(small_tree(), options(GetParam()));
  TemporaryFile shard(good);
  const auto archive = shard.open();
  shard.resize(600);
  const auto bytes = contents(**archive, "z");
  ASSERT_FALSE(bytes);
  EXPECT_EQ(bytes.error().kind, ErrorKind::Corrupt);
}

TEST(Verify, TotalsAreThoseOfTheEntries) {
  const Bytes good = pack(small_tree(), options(Container::TarZst));
  const std::size_t begin = as_text(good).rfind("SHARDFS\n");
  for (const std::size_t field : {64, 72}) {  // files, and their bytes
    Bytes bad = good;
    std::byte* const superblock = bad.data() + begin;
    const auto size = load<std::uint32_t>(superblock + 12);
    store(superblock + field, load<std::uint64_t>(superblock + field) + 1);
    store(superblock + size - 8, checksum64({superblock, size - 8}));
    const TemporaryFile shard(bad);
    const auto archive = shard.open();
    ASSERT_TRUE(archive) << archive.error().message;
    const auto report = (*archive)->verify(2, {});
    ASSERT_TRUE(report) << report.error().message;
    ASSERT_EQ(report->bad.size(), 1) << field;
    EXPECT_EQ(report->bad[0].path, "index");
  }
}

TEST(NoShard, IsSaid) {
  const std::pair<Bytes, std::string> cases[] = {
      {{}, "empty"},
      {text("some text\n"), "not a shard"},
      {noise(100000, 1), "not a shard"},
      {Bytes(100000), "not a shard"},
      {text("\x28\xb5\x2f\xfd stuff"), "not a shard"},
  };
  for (const auto& [bytes, message] : cases) {
    const TemporaryFile shard(bytes);
    const auto archive = shard.open();
    ASSERT_FALSE(archive);
    EXPECT_EQ(archive.error().kind, bytes.empty() ? ErrorKind::Unsupported : ErrorKind::NotFound);
    EXPECT_THAT(archive.error().message, ::testing::HasSubstr(message));
    EXPECT_THAT(archive.error().message, ::testing::StartsWith(shard.path()));
  }
}

TEST(NoShard, AnOrdinaryTarIsToldFromOneThatWasAShard) {
  Bytes shard = pack(small_tree(), options(Container::Tar));
  const std::size_t header = 512;
  {
    // The first member and an end: a tar, and no shard.
    Bytes tar(shard.begin(), shard.begin() + header);
    tar.resize(10240);
    const TemporaryFile f(tar);
    EXPECT_THAT(f.open().error().message, ::testing::HasSubstr("not a shard"));
  }
  {
    Bytes moved(512);  // something in front
    moved.insert(moved.end(), shard.begin(), shard.end());
    const TemporaryFile f(moved);
    EXPECT_EQ(f.open().error().kind, ErrorKind::Unsupported);
    EXPECT_THAT(f.open().error().message,
                ::testing::HasSubstr("was a shard, but has been changed"));
  }
  {
    Bytes behind = shard;
    behind.insert(behind.end(), shard.begin(), shard.begin() + 10240);
    const TemporaryFile f(behind);
    EXPECT_FALSE(f.open());
  }
  {
    const TemporaryFile f(ByteSpan(shard).first(shard.size() / 2));
    EXPECT_EQ(f.open().error().kind, ErrorKind::Corrupt);
    EXPECT_THAT(f.open().error().message, ::testing::HasSubstr("cut short"));
  }
}

TEST(NoShard, ADamagedTrailerIsTold) {
  const Bytes good = pack(small_tree(), options(Container::Tar));
  const std::string_view all = as_text(good);
  const std::size_t begin = all.rfind(" comment=shardfs-trailer 1") / 512 * 512;
  const std::size_t end = all.find('\n', begin);
  for (std::size_t at = begin - 512; at <= end; ++at) {
    Bytes bad = good;
    bad[at] ^= std::byte(1 << at % 8);
    const TemporaryFile f(bad);
    const auto opened = f.open();
    ASSERT_FALSE(opened) << at;
    EXPECT_NE(opened.error().kind, ErrorKind::NotFound) << at << ": " << opened.error().message;
  }
}

TEST(NoShard, AZstShardInAnotherPlaceIsTold) {
  const Bytes shard = pack(small_tree(), options(Container::TarZst));
  Bytes twice = shard;
  twice.insert(twice.end(), shard.begin(), shard.end());
  const TemporaryFile f(twice);
  ASSERT_FALSE(f.open());
  EXPECT_THAT(f.open().error().message, ::testing::HasSubstr("was a shard, but has been changed"));
}

// A reader takes the last trailer in its place, so nothing behind the true one may hold one: who
// writes the last file of a data set could otherwise lead readers to an index of his own.
TEST(NoShard, ATrailerInDataNeverStandsBehindTheTrueOne) {
  const Bytes inner = pack({file("a", text("wrong"))}, options(Container::Tar));
  for (const Bytes& data : {inner, Bytes(inner.end() - 10240, inner.end())}) {
    const std::vector<File> files = {file("a", text("right")), file("b", data)};
    const Bytes bytes = pack(files, options(Container::Tar));
    const TemporaryFile shard(bytes);
    const auto archive = shard.open();
    ASSERT_TRUE(archive) << archive.error().message;
    EXPECT_EQ(*contents(**archive, "a"), text("right"));
    EXPECT_EQ(*contents(**archive, "b"), data);
    const auto in_data = (*archive)->extents(*(*archive)->tree().find("b"))->front();
    EXPECT_GT(as_text(bytes).rfind("shardfs-trailer 1 "), in_data.offset + in_data.length);
  }
}

}  // namespace
}  // namespace shardfs::testing
