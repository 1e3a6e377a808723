// What a writer writes: the same bytes every time, and those that the format says.
#include "fs/archive/shard/writer.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <zstd.h>

#include "fs/archive/shard/index_runs.h"
#include "fs/base/checksum.h"
#include "tests/archive/packed.h"

namespace shardfs::testing {
namespace {

class Writer : public ::testing::TestWithParam<Container> {};
INSTANTIATE_TEST_SUITE_P(Both, Writer, ::testing::Values(Container::Tar, Container::TarZst),
                         name_of);

TEST_P(Writer, SameBytesForAnyNumberOfThreadsAndParts) {
  const auto files = odd_tree();
  ShardOptions o = options(GetParam());
  const Bytes once = pack(files, o);
  for (const unsigned threads : {1u, 2u, 8u}) {
    o.threads = threads;
    for (const std::size_t cut : {0u, 1000u, 65536u, 1000003u})
      EXPECT_TRUE(pack(files, o, cut) == once) << threads << " threads, parts of " << cut;
  }
}

std::string digest(ByteSpan bytes) {
  std::string hex;
  for (const std::byte b : digest128(bytes))
    hex += fmt::format("{:02x}", std::to_integer<unsigned>(b));
  return hex;
}

std::vector<File> golden_tree() {
  auto files = odd_tree();
  std::erase_if(files, [](const File& f) { return f.data.size() > 400000; });
  return files;
}

// If this fails, files written by older versions differ from new ones: the format's version number
// must go up.
TEST(Golden, TarBytesAreThoseOfVersion1) {
  EXPECT_EQ(digest(pack(golden_tree(), options(Container::Tar))),
            "dbdebfeb13340f03fe53b532017e0845");
}

/// All ordinary frames of a .tar.zst, decoded by zstd, and where they begin in the stream.
Bytes decode_frames(ByteSpan file, std::vector<std::size_t>& starts) {
  Bytes stream;
  while (load<std::uint32_t>(file.data()) == 0xFD2FB528) {
    const std::size_t size = ZSTD_findFrameCompressedSize(file.data(), file.size());
    const auto decoded = ZSTD_getFrameContentSize(file.data(), file.size());
    starts.push_back(stream.size());
    stream.resize(stream.size() + decoded);
    EXPECT_EQ(ZSTD_decompress(stream.data() + starts.back(), decoded, file.data(), size), decoded);
    file = file.subspan(size);
  }
  EXPECT_EQ(load<std::uint32_t>(file.data()), 0x184D2A53u) << "the index frame follows";
  return stream;
}

// Compressed bytes are libzstd's; what goes into which frame is the format's.
TEST(Golden, ZstFramesAreThoseOfVersion1) {
  const Bytes file = pack(golden_tree(), options(Container::TarZst));
  std::vector<std::size_t> starts;
  const Bytes stream = decode_frames(file, starts);
  EXPECT_EQ(digest(stream), "edfd036078839d5ee81843e4d0c68f4f");
  EXPECT_EQ(stream.size() % 10240, 0u);
  EXPECT_EQ(fmt::format("{}", fmt::join(starts, " ")),
            "0 2048 67584 68096 133632 133633 134144 200192 243200 308736 374272 439808 505344 "
            "543200 607744 671232 733696 796160 859136 924160 989696 1054208 1116160 1176064 "
            "1238528 1303552 1364992 1427968 1493504 1552896 1613824 1676800 1741312 1798144 "
            "1856512 1915392 1976832 2038272 2102784 2167296 2222592 2278912 2335232 2393600");
}

TEST(Frames, DataThatDoNotShrinkHaveFramesOfTheirOwn) {
  const Bytes file =
      pack({shardfs::testing::file("a", prose(5000)), shardfs::testing::file("b", noise(5000, 1)),
            shardfs::testing::file("c", prose(100000)), shardfs::testing::file("d", text("d"))},
           options(Container::TarZst));
  std::vector<std::size_t> starts;
  const Bytes stream = decode_frames(file, starts);
  // a with headers, and b's header | b's data | padding, c's header | c in two | padding, d, zeros
  const std::size_t b = 512 + 5120 + 512, c = b + 5120 + 512;
  EXPECT_THAT(starts, ::testing::ElementsAre(0, b, b + 5000, c, c + 65536, c + 100000));
}

TEST(Writer, RefusesImpossibleOptions) {
  MemorySink sink;
  const auto refused = [&](ShardOptions o) {
    const auto writer = ShardWriter::create(o, sink);
    return !writer && writer.error().kind == ErrorKind::Invalid;
  };
  EXPECT_TRUE(refused({.level = 0}));
  EXPECT_TRUE(refused({.level = 23}));
  EXPECT_TRUE(refused({.frame_size = 4095}));
  EXPECT_TRUE(refused({.frame_size = 16 * 1024 * 1024 + 1}));
  EXPECT_TRUE(refused({.align = 1000}));
  EXPECT_TRUE(refused({.container = Container::TarZst, .align = 4096}));
  EXPECT_TRUE(refused({.container = Container::Foreign}));
}

TEST_P(Writer, RefusesDataOfAnotherSize) {
  MemorySink sink;
  auto writer = ShardWriter::create(options(GetParam()), sink);
  File f = file("x", text("12345"));
  EXPECT_FALSE((*writer)->add(f.member, Payload::prepare(text("1234"), GetParam())));
  ASSERT_TRUE((*writer)->begin(f.member));
  EXPECT_FALSE((*writer)->append(text("123456")));
  ASSERT_TRUE((*writer)->append(text("1234")));
  EXPECT_FALSE((*writer)->add(f.member, Payload::prepare(f.data, GetParam())));
  EXPECT_FALSE((*writer)->finish()) << "a byte is missing";
}

/// Fails from the n-th byte on, as a full disk does.
class FullSink : public ByteSink {
 public:
  explicit FullSink(std::size_t room) : room_(room) {}
  Result<void> write(ByteSpan part) override {
    if (part.size() > room_) return fail_errno(ENOSPC, "disk", "cannot write");
    room_ -= part.size();
    return {};
  }

 private:
  std::size_t room_;
};

TEST_P(Writer, PassesOnTheErrorOfItsSink) {
  const auto files = odd_tree();
  ShardOptions o = options(GetParam());
  o.threads = 2;
  const std::size_t all = pack(files, o).size();
  for (const std::size_t room : {std::size_t{0}, all / 2, all - 1}) {
    FullSink sink(room);
    auto writer = ShardWriter::create(o, sink);
    Result<void> done;
    for (const File& f : files) {
      done = (*writer)->begin(f.member);
      if (done) done = (*writer)->append(f.data);
      if (!done) break;
    }
    const auto end = done ? (*writer)->finish() : std::unexpected(done.error());
    ASSERT_FALSE(end);
    EXPECT_EQ(end.error().kind, ErrorKind::NoSpace);
  }
}

/// Names of the members of a tar without long names, global headers left out.
std::vector<std::string> member_names(ByteSpan tar) {
  std::vector<std::string> names;
  while (tar.size() >= 512 && tar[0] != std::byte{0}) {
    const std::string_view block = as_text(tar.first(512));
    const std::uint64_t size = std::stoull(std::string(block.substr(124, 11)), nullptr, 8);
    if (block[156] != 'g') names.emplace_back(block.data());
    tar = tar.subspan(512 + round_up(size, 512));
  }
  return names;
}

TEST(StandIn, IsTheLastDirectory) {
  const Bytes tar = pack({directory("a"), directory("b"), file("b/large", noise(200'000, 1))},
                         options(Container::Tar));
  EXPECT_THAT(member_names(tar), ::testing::ElementsAre("a/", "b/", "b/large", "b/"));
}

TEST(StandIn, IsNoDirectoryThatAFileHasReplaced) {
  const Bytes tar = pack({directory("x"), file("x", noise(200'000, 1))}, options(Container::Tar));
  EXPECT_THAT(member_names(tar), ::testing::ElementsAre("x/", "x", "./"));
}

TEST(StandIn, LeavesTheTrailerWhereAReaderLooks) {
  File large_attributes = directory("d");
  for (char c = 'a'; c < 'g'; ++c)
    large_attributes.member.xattrs.emplace_back(std::string("user.") + c, noise(60'000, 1));
  const Bytes tar = pack({large_attributes, file("f", noise(200'000, 1))}, options(Container::Tar));
  const TemporaryFile shard(tar);
  const auto opened = open_shard(*FileSource::open(shard.path()));
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ((*opened)->tree().xattrs(*(*opened)->tree().find("d"))->size(), 6u);
}

// Long names make an index of two runs of headers.
TEST(Writer, AnIndexOfSeveralRuns) {
  constexpr unsigned kDirectories = 40, kFiles = 7000;
  MemorySink sink;
  auto writer = *ShardWriter::create(options(Container::Tar), sink);
  std::mt19937 random(5);
  std::string last;
  for (unsigned d = 0; d < kDirectories; ++d) {
    ASSERT_TRUE(writer->add(directory(fmt::format("d{:02}", d)).member, {}));
    for (unsigned i = 0; i < kFiles; ++i) {
      std::string name(100, '\0');
      for (char& c : name) c = static_cast<char>('A' + random() % 58);
      last = fmt::format("d{:02}/{:04}{}", d, i, name);
      ASSERT_TRUE(writer->add(file(last, {}).member, {}));
    }
  }
  const File small = file("d39/zz-small", text("held back")), large = file("e", noise(70000, 1));
  ASSERT_TRUE(writer->add(small.member, Payload::prepare(small.data, Container::Tar)));
  ASSERT_TRUE(writer->add(large.member, Payload::prepare(large.data, Container::Tar)));
  const auto summary = writer->finish();
  ASSERT_TRUE(summary);
  ASSERT_EQ(IndexRuns::count_for(summary->index_bytes), 2u);

  const TemporaryFile shard(sink.bytes);
  sink.bytes = {};
  const auto archive = shard.open();
  ASSERT_TRUE(archive) << archive.error().message;
  EXPECT_EQ((*archive)->tree().entries(), 1 + kDirectories * (kFiles + 1) + 2);
  EXPECT_TRUE((*archive)->tree().find(last));
  EXPECT_EQ(*contents(**archive, small.member.path), small.data);
  EXPECT_EQ(*contents(**archive, large.member.path), large.data);
  EXPECT_TRUE((*archive)->verify(2, {})->ok());
}

}  // namespace
}  // namespace shardfs::testing
