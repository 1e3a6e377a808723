// An index as header values: escaping, where its chunks stand, the trailer.
#include "fs/archive/shard/index_runs.h"

#include <numeric>

#include <gmock/gmock.h>

#include "fs/archive/shard/index_storage.h"
#include "fs/archive/shard/trailer.h"
#include "fs/archive/shard/ustar.h"
#include "tests/archive/packed.h"

namespace shardfs::testing {
namespace {

void expect_round_trip(const Bytes& plain) {
  Bytes escaped(escaped_size(plain.size()));
  escape(plain, escaped.data());
  ASSERT_THAT(escaped, ::testing::Not(::testing::Contains(std::byte{0})));
  Bytes back(plain.size());
  unescape(escaped, back);
  ASSERT_EQ(back, plain);
}

TEST(Escape, EveryLengthAroundAUnit) {
  for (std::size_t size = 0; size < 3 * kEscapeUnit + 2; ++size)
    expect_round_trip(noise(size, static_cast<unsigned>(size)));
}

TEST(Escape, OnlyOneValueIsFree) {
  for (unsigned missing = 1; missing < 256; ++missing) {
    Bytes plain;
    for (unsigned v = 1; v < 256; ++v)
      if (v != missing) plain.push_back(std::byte(v));
    ASSERT_EQ(plain.size(), kEscapeUnit);
    expect_round_trip(plain);
    Bytes escaped(escaped_size(plain.size()));
    escape(plain, escaped.data());
    EXPECT_EQ(escaped[0], std::byte(missing));
  }
}

TEST(Escape, TakesTheLeastFreeValue) {
  const Bytes plain = {std::byte{1}, std::byte{3}, std::byte{0}};
  Bytes escaped(4);
  escape(plain, escaped.data());
  EXPECT_EQ(escaped, (Bytes{std::byte{2}, std::byte{3}, std::byte{1}, std::byte{2}}));
}

TEST(IndexRuns, RecordsStayUnderAMillionBytes) {
  EXPECT_EQ(comment_record_size(escaped_size(kIndexChunkBytes)), 999'616u);
  EXPECT_EQ(IndexRuns::header_size(kIndexChunkBytes), 1'000'448u);
}

TEST(IndexRuns, TheTrailerCountsInTheLastRun) {
  EXPECT_EQ(IndexRuns::count_for(1), 1u);
  EXPECT_EQ(IndexRuns::count_for(27 * kIndexChunkBytes), 1u);
  EXPECT_EQ(IndexRuns::count_for(27 * kIndexChunkBytes + 1), 2u);
  EXPECT_EQ(IndexRuns::count_for(28 * kIndexChunkBytes), 2u);
  EXPECT_EQ(IndexRuns::run_size(28 * kIndexChunkBytes, 1), 0u);
  EXPECT_EQ(IndexRuns::count_for(55 * kIndexChunkBytes), 2u);
  EXPECT_EQ(IndexRuns::count_for(55 * kIndexChunkBytes + 1), 3u);
}

/// Writes `index` as header runs with gaps between them.
Bytes in_runs(const Bytes& index, std::vector<std::uint64_t>& starts) {
  Bytes archive(512 * 3);
  ByteSpan rest(index);
  for (std::uint64_t r = 0; r < IndexRuns::count_for(index.size()); ++r) {
    starts.push_back(archive.size());
    for (std::uint64_t i = 0; i < kHeadersInRow && !rest.empty(); ++i) {
      const ByteSpan chunk = rest.first(std::min<std::size_t>(rest.size(), kIndexChunkBytes));
      const Bytes header = encode_index_header(chunk);
      EXPECT_EQ(header.size(), IndexRuns::header_size(chunk.size()));
      archive.insert(archive.end(), header.begin(), header.end());
      rest = rest.subspan(chunk.size());
    }
    EXPECT_EQ(archive.size() - starts.back(), IndexRuns::run_size(index.size(), r));
    archive.resize(archive.size() + 512 * (r + 1));
  }
  return archive;
}

TEST(IndexStorage, AnyRangeComesOutOfTheRuns) {
  std::mt19937 random(3);
  for (const std::size_t size :
       {std::size_t{1}, std::size_t{5000}, std::size_t{kIndexChunkBytes},
        std::size_t{kIndexChunkBytes + 1}, std::size_t{28 * kIndexChunkBytes},
        std::size_t{29 * kIndexChunkBytes + 77}}) {
    const Bytes index = noise(size, static_cast<unsigned>(size));
    std::vector<std::uint64_t> starts;
    const TemporaryFile archive(in_runs(index, starts));
    const auto source = FileSource::open(archive.path());
    const auto storage = index_in_runs(**source, IndexRuns(size, starts));
    const auto all = read_index(*storage, 0, size);
    ASSERT_TRUE(all);
    EXPECT_TRUE(std::ranges::equal(*all, index));
    for (int i = 0; i < 20; ++i) {
      const std::uint64_t offset = random() % size;
      const std::uint64_t count = random() % (size - offset) + 1;
      const auto part = read_index(*storage, offset, count);
      ASSERT_TRUE(part);
      EXPECT_TRUE(std::ranges::equal(*part, ByteSpan(index).subspan(offset, count)));
    }
  }
}

TEST(Trailer, RoundTrip) {
  Trailer trailer{1, 2, 3, 4, 0xfedcba9876543210, {5, 0xffffffffffffffff}};
  const std::string value = trailer.encode();
  EXPECT_EQ(value,
            "shardfs-trailer 1 self=0000000000000001 end=0000000000000002 size=0000000000000003 "
            "superblock=0000000000000004 tail=fedcba9876543210 "
            "runs=0000000000000005,ffffffffffffffff check=ef76d1090985a617");
  const auto back = Trailer::decode(value);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->encode(), value);
  EXPECT_EQ(encode_global_header(value).size(), Trailer::size_with(2));
}

TEST(Trailer, AnyChangeIsNoticed) {
  const std::string value = Trailer{1, 2, 3, 4, 5, {6}}.encode();
  for (std::size_t i = 0; i < value.size(); ++i)
    for (int bit = 0; bit < 8; ++bit) {
      std::string other = value;
      other[i] = static_cast<char>(other[i] ^ (1 << bit));
      EXPECT_FALSE(Trailer::decode(other)) << i;
    }
  for (std::size_t i = 0; i < value.size(); ++i) EXPECT_FALSE(Trailer::decode(value.substr(0, i)));
  EXPECT_FALSE(Trailer::decode(value + " "));
}

}  // namespace
}  // namespace shardfs::testing
