// What is packed comes out again, in both containers.
#include <atomic>
#include <thread>

#include <gmock/gmock.h>

#include "tests/archive/packed.h"

namespace shardfs::testing {
namespace {

class RoundTrip : public ::testing::TestWithParam<Container> {};
INSTANTIATE_TEST_SUITE_P(Both, RoundTrip, ::testing::Values(Container::Tar, Container::TarZst),
                         name_of);

void expect_same(const Archive& archive, const File& f) {
  SCOPED_TRACE(f.member.path);
  const Tree& tree = archive.tree();
  const auto entry = tree.find(f.member.path);
  ASSERT_TRUE(entry) << entry.error().message;
  const auto attributes = tree.attributes(*entry);
  ASSERT_TRUE(attributes) << attributes.error().message;
  if (f.member.hard_link) {
    EXPECT_EQ(attributes->inode, *tree.find(f.member.link));
    return;
  }
  EXPECT_EQ(attributes->mode, f.member.mode);
  EXPECT_EQ(attributes->uid, f.member.uid);
  EXPECT_EQ(attributes->gid, f.member.gid);
  EXPECT_EQ(attributes->mtime, f.member.mtime);
  EXPECT_EQ(attributes->device_major, f.member.device_major);
  EXPECT_EQ(attributes->device_minor, f.member.device_minor);
  if (f.member.is_symlink()) {
    EXPECT_EQ(*tree.link(*entry), f.member.link);
  }
  const auto xattrs = tree.xattrs(*entry);
  ASSERT_EQ(xattrs->size(), f.member.xattrs.size());
  for (std::size_t i = 0; i < xattrs->size(); ++i) {
    EXPECT_EQ((*xattrs)[i].name, f.member.xattrs[i].first);
    EXPECT_TRUE(std::ranges::equal((*xattrs)[i].value, f.member.xattrs[i].second));
  }
  if (!f.member.is_regular()) return;
  EXPECT_EQ(attributes->size, f.data.size());
  EXPECT_EQ(*tree.holes(*entry), f.member.holes);
  const auto bytes = contents(archive, *entry);
  ASSERT_TRUE(bytes) << bytes.error().message;
  EXPECT_TRUE(*bytes == f.data);
}

TEST_P(RoundTrip, EveryKindOfMember) {
  const auto files = odd_tree();
  ShardSummary summary;
  const TemporaryFile shard(pack(files, options(GetParam()), 0, &summary));
  const auto archive = shard.open();
  ASSERT_TRUE(archive) << archive.error().message;
  for (const File& f : files) expect_same(**archive, f);
  const ArchiveInfo info = (*archive)->info();
  EXPECT_EQ(info.id, summary.id);
  EXPECT_EQ(info.files, summary.files);
  EXPECT_EQ(info.entries, files.size());
  EXPECT_EQ(info.packed_bytes, summary.packed_bytes);
  EXPECT_EQ(info.index_bytes, summary.index_bytes);
}

TEST_P(RoundTrip, VerifyFindsNothing) {
  const Bytes bytes = pack(odd_tree(), options(GetParam()));
  const TemporaryFile shard(bytes);
  const auto archive = shard.open();
  ASSERT_TRUE(archive) << archive.error().message;
  for (const unsigned threads : {1u, 3u}) {
    std::atomic<std::uint64_t> seen{0};
    const auto report = (*archive)->verify(threads, [&](std::uint64_t n) {
      seen += n;
      return true;
    });
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_TRUE(report->ok()) << report->bad.front().path << report->bad.front().offset;
    EXPECT_EQ(report->checked_bytes, bytes.size());
    EXPECT_EQ(seen, bytes.size());
  }
}

TEST_P(RoundTrip, VerifyStopsWhenAsked) {
  const TemporaryFile shard(pack(odd_tree(), options(GetParam())));
  const auto archive = shard.open();
  const auto report = (*archive)->verify(2, [](std::uint64_t) { return false; });
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().kind, ErrorKind::Interrupted);
}

TEST_P(RoundTrip, AnyRangeOfAFile) {
  const auto files = odd_tree();
  const TemporaryFile shard(pack(files, options(GetParam())));
  const auto archive = shard.open();
  ASSERT_TRUE(archive);
  std::mt19937 random(7);
  for (const File& f : files) {
    if (!f.member.is_regular() || f.data.empty()) continue;
    const Entry inode = *(*archive)->tree().find(f.member.path);
    for (int i = 0; i < 40; ++i) {
      const std::size_t offset = random() % (f.data.size() + 10);
      const std::size_t wanted = random() % (i % 4 == 0 ? 4000 : 400000);
      Bytes out(wanted, std::byte{0xee});
      const auto size = (*archive)->read(inode, offset, out, nullptr);
      ASSERT_TRUE(size) << size.error().message;
      const std::size_t expected =
          std::min(wanted, f.data.size() - std::min(offset, f.data.size()));
      ASSERT_EQ(*size, expected);
      ASSERT_TRUE(
          std::equal(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(expected),
                     f.data.begin() + static_cast<std::ptrdiff_t>(std::min(offset, f.data.size()))))
          << f.member.path << " " << offset << " " << wanted;
    }
  }
}

TEST_P(RoundTrip, AnArchiveOfNothing) {
  for (const auto& files :
       {std::vector<File>{}, std::vector<File>{directory("")}, std::vector<File>{directory("d")}}) {
    const TemporaryFile shard(pack(files, options(GetParam())));
    const auto archive = shard.open();
    ASSERT_TRUE(archive) << archive.error().message;
    EXPECT_TRUE((*archive)->verify(1, {})->ok());
  }
}

TEST_P(RoundTrip, OfTwoMembersWithOneNameTheLastWins) {
  std::vector<File> files = {file("a", prose(200000)), file("b", text("b")),
                             file("a", text("second")), hard_link("c", "a"),
                             file("a", noise(70000, 5))};
  const TemporaryFile shard(pack(files, options(GetParam())));
  const auto archive = shard.open();
  ASSERT_TRUE(archive) << archive.error().message;
  EXPECT_EQ(*contents(**archive, "a"), files.back().data);
  EXPECT_EQ(*contents(**archive, "c"), text("second"));
  const auto report = (*archive)->verify(2, {});
  EXPECT_TRUE(report->ok()) << report->bad.front().path;
}

TEST_P(RoundTrip, ExtentsCoverTheFile) {
  const auto files = odd_tree();
  const Bytes bytes = pack(files, options(GetParam()));
  const TemporaryFile shard(bytes);
  const auto archive = shard.open();
  for (const File& f : files) {
    if (!f.member.is_regular()) continue;
    const auto list = (*archive)->extents(*(*archive)->tree().find(f.member.path));
    ASSERT_TRUE(list);
    std::uint64_t sum = 0;
    for (const Extent& extent : *list) {
      EXPECT_EQ(extent.stored, GetParam() == Container::Tar);
      EXPECT_LE(extent.offset + extent.length, bytes.size());
      if (extent.stored) {
        EXPECT_TRUE(std::ranges::equal(ByteSpan(bytes).subspan(extent.offset, extent.length),
                                       ByteSpan(f.data).subspan(sum, extent.decoded)));
      }
      sum += extent.decoded;
    }
    EXPECT_EQ(sum, f.data.size());
  }
}

TEST_P(RoundTrip, ManyThreadsReadAtOnce) {
  const auto files = odd_tree();
  const TemporaryFile shard(pack(files, options(GetParam())));
  const auto archive = shard.open();
  std::atomic<int> wrong{0};
  {
    std::vector<std::jthread> readers;
    for (unsigned t = 0; t < 6; ++t)
      readers.emplace_back([&, t] {
        std::mt19937 random(t);
        for (int i = 0; i < 150; ++i) {
          const File& f = files[random() % files.size()];
          if (!f.member.is_regular()) continue;
          const auto bytes = contents(**archive, f.member.path);
          if (!bytes || *bytes != f.data) ++wrong;
        }
      });
  }
  EXPECT_EQ(wrong, 0);
}

TEST(DecodedBlock, HoldsTheNeighbours) {
  const auto files = odd_tree();
  const TemporaryFile shard(pack(files, options(Container::TarZst)));
  const auto archive = shard.open();
  const Tree& tree = (*archive)->tree();
  std::shared_ptr<const DecodedBlock> block;
  Bytes out(100);
  ASSERT_TRUE((*archive)->read(*tree.find("z/1010"), 0, out, &block));
  ASSERT_NE(block, nullptr);
  int neighbours = 0;
  for (const File& f : files) {
    if (!f.member.is_regular()) continue;
    const auto found = (*archive)->contents_in(*block, *tree.find(f.member.path));
    if (!found) continue;
    ++neighbours;
    EXPECT_TRUE(std::ranges::equal(*found, f.data)) << f.member.path;
  }
  EXPECT_GT(neighbours, 5);
}

TEST(Alignment, PutsLargeFilesAtMultiples) {
  ShardOptions o = options(Container::Tar);
  o.align = 4096;
  auto files = odd_tree();
  for (File& f : files)
    if (f.member.path == "big/prose") f.member.xattrs = {{"user.x", noise(700, 1)}};
  const TemporaryFile shard(pack(files, o));
  const auto archive = shard.open();
  ASSERT_TRUE(archive);
  int aligned = 0;
  for (const File& f : files) {
    expect_same(**archive, f);
    if (!f.member.is_regular() || f.data.size() < 65536) continue;
    EXPECT_EQ((*archive)->extents(*(*archive)->tree().find(f.member.path))->front().offset % 4096,
              0u);
    ++aligned;
  }
  EXPECT_GE(aligned, 5);
  EXPECT_TRUE((*archive)->verify(1, {})->ok());
}

TEST(FrameSize, FromTheLeastToTheLargest) {
  const auto files = odd_tree();
  for (const std::uint32_t size : {4096u, 1000000u, 16u * 1024 * 1024}) {
    ShardOptions o = options(Container::TarZst);
    o.frame_size = size;
    o.threads = 2;
    const TemporaryFile shard(pack(files, o));
    const auto archive = shard.open();
    ASSERT_TRUE(archive) << archive.error().message;
    for (const File& f : files) expect_same(**archive, f);
    EXPECT_TRUE((*archive)->verify(2, {})->ok());
  }
}

// Held-back members stand behind the index, wherever they came in the tree.
TEST(HeldBack, MayComeFromAnywhereInTheTree) {
  const Bytes large = noise(100000, 1);
  const std::vector<std::vector<File>> trees = {
      {file("a", text("kept")), directory("d"), file("d/large", large)},
      {directory("d"), file("d/small", text("s")), directory("e"), file("e/large", large)},
      {file("large", large)},
      {file("a", text("a")), hard_link("b", "a")},
      {file("a", text("a")), file("large", large), hard_link("b", "a"), file("z", large)},
      {file("a", text("a")), symlink("b", "a"), directory("c")},
  };
  for (const auto& files : trees) {
    const TemporaryFile shard(pack(files, options(Container::Tar)));
    const auto archive = shard.open();
    ASSERT_TRUE(archive) << archive.error().message;
    for (const File& f : files) expect_same(**archive, f);
    EXPECT_TRUE((*archive)->verify(1, {})->ok());
  }
}

TEST_P(RoundTrip, AShardInAShard) {
  const Bytes inner_tar = pack({file("inner", text("inner"))}, options(Container::Tar));
  const Bytes inner_zst = pack({file("inner", text("inner"))}, options(Container::TarZst));
  const std::vector<File> files = {file("x", text("x")), file("y.tar", inner_tar),
                                   file("z.tar.zst", inner_zst), file("zz.tar", inner_tar)};
  for (std::size_t n = 1; n <= files.size(); ++n) {
    const std::vector<File> some(files.begin(), files.begin() + static_cast<std::ptrdiff_t>(n));
    const TemporaryFile shard(pack(some, options(GetParam())));
    const auto archive = shard.open();
    ASSERT_TRUE(archive) << archive.error().message;
    for (const File& f : some) expect_same(**archive, f);
    EXPECT_TRUE((*archive)->verify(1, {})->ok());
  }
}

}  // namespace
}  // namespace shardfs::testing
