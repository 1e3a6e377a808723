#include "fs/tree/index.h"

#include <gtest/gtest.h>

#include "fs/base/checksum.h"

namespace shardfs {
namespace {

using Sections = std::vector<std::pair<Section, Bytes>>;

Bytes some_bytes(std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = std::byte(i * 7 + 1);
  return bytes;
}

Superblock counts() {
  Superblock superblock;
  superblock.container = Container::TarZst;
  superblock.entries = 5;
  superblock.directories = 2;
  superblock.files = 3;
  superblock.file_bytes = 123456789;
  superblock.archive_size = 1 << 20;
  superblock.index_position = 777;
  superblock.tar_size = 888;
  superblock.header_digest = 0x123456789abcdef0;
  return superblock;
}

Bytes some_index() {
  Superblock superblock = counts();
  return encode_index(superblock, {{Section::Directories, some_bytes(13)},
                                   {Section::Names, some_bytes(100)},
                                   {Section::Checksums, some_bytes(40)}});
}

void seal(Bytes& index) {
  const auto size = load<std::uint32_t>(index.data() + 12);
  store(index.data() + size - 8, checksum64(ByteSpan(index).first(size - 8)));
}

ErrorKind refusal(const Bytes& index) {
  const auto decoded = Index::decode(index);
  EXPECT_FALSE(decoded.has_value());
  return decoded ? ErrorKind::Invalid : decoded.error().kind;
}

TEST(Index, KeepsWhatWasPutIn) {
  Superblock written = counts();
  const Sections sections = {{Section::Directories, some_bytes(13)},
                             {Section::Names, some_bytes(100)},
                             {Section::Checksums, some_bytes(40)}};
  const Bytes bytes = encode_index(written, sections);
  EXPECT_EQ(written.index_size, bytes.size());
  EXPECT_EQ(index_size_for({13, 100, 40}), bytes.size());

  const auto index = Index::decode(bytes);
  ASSERT_TRUE(index.has_value()) << index.error().message;
  const Superblock& read = index->superblock;
  EXPECT_EQ(read.container, Container::TarZst);
  EXPECT_EQ(read.index_size, bytes.size());
  EXPECT_EQ(read.entries, 5u);
  EXPECT_EQ(read.directories, 2u);
  EXPECT_EQ(read.files, 3u);
  EXPECT_EQ(read.file_bytes, 123456789u);
  EXPECT_EQ(read.archive_size, 1u << 20);
  EXPECT_EQ(read.index_position, 777u);
  EXPECT_EQ(read.tar_size, 888u);
  EXPECT_EQ(read.header_digest, 0x123456789abcdef0u);
  EXPECT_EQ(read.identity, written.identity);
  EXPECT_EQ(read.id().size(), 32u);
  EXPECT_EQ(Bytes(index->section(Section::Directories).begin(),
                  index->section(Section::Directories).end()),
            sections[0].second);
  EXPECT_EQ(index->section(Section::Names).size(), 100u);
  EXPECT_TRUE(index->section(Section::Holes).empty());
}

TEST(Index, NeedsOnlyWhatStandsBeforeTheChecksums) {
  Bytes bytes = some_index();
  const std::uint64_t enough = Index::decode(bytes)->superblock.tree_size();
  EXPECT_EQ(enough, bytes.size() - 40);
  bytes.resize(enough);
  const auto index = Index::decode(bytes);
  ASSERT_TRUE(index.has_value());
  EXPECT_TRUE(index->section(Section::Checksums).empty());
  bytes.resize(enough - 1);
  EXPECT_EQ(refusal(bytes), ErrorKind::Corrupt);
}

TEST(Index, RefusesEveryFlippedBitBeforeTheChecksums) {
  const Bytes whole = some_index();
  const std::size_t end = whole.size() - 40;
  for (std::size_t at = 0; at < end; ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      Bytes bytes = whole;
      bytes[at] ^= std::byte(1 << bit);
      const auto index = Index::decode(bytes);
      EXPECT_FALSE(index.has_value()) << "byte " << at << " bit " << bit;
    }
  }
}

TEST(Index, RefusesEveryCut) {
  const Bytes whole = some_index();
  for (std::size_t size = 0; size < whole.size() - 40; ++size)
    EXPECT_EQ(refusal(Bytes(whole.begin(), whole.begin() + size)), ErrorKind::Corrupt) << size;
}

TEST(Index, RefusesAnotherVersionAndUnknownFeatures) {
  Bytes index = some_index();
  store<std::uint32_t>(index.data() + 8, 2);
  seal(index);
  EXPECT_EQ(refusal(index), ErrorKind::Unsupported);
  index = some_index();
  store<std::uint64_t>(index.data() + 16, 1);
  seal(index);
  EXPECT_EQ(refusal(index), ErrorKind::Unsupported);
}

TEST(Index, IgnoresOptionalFeatures) {
  Bytes index = some_index();
  store<std::uint64_t>(index.data() + 24, ~std::uint64_t{0});
  seal(index);
  EXPECT_TRUE(Index::decode(index).has_value());
}

TEST(Index, RefusesReservedFields) {
  for (const std::size_t at : {112, 120 + 4}) {
    Bytes index = some_index();
    index[at] = std::byte{1};
    seal(index);
    EXPECT_EQ(refusal(index), ErrorKind::Corrupt) << at;
  }
}

TEST(Index, RefusesSectionsOutOfOrderTwiceOverlappingOrOutside) {
  constexpr std::size_t kRow = 32, kTable = 120;
  const auto changed = [](std::size_t row, std::size_t field, std::uint64_t value) {
    Bytes index = some_index();
    store(index.data() + kTable + row * kRow + field, value);
    seal(index);
    return index;
  };
  EXPECT_EQ(refusal(changed(1, 0, 1)), ErrorKind::Corrupt);   // twice
  EXPECT_EQ(refusal(changed(0, 0, 10)), ErrorKind::Corrupt);  // out of order
  const auto second = load<std::uint64_t>(some_index().data() + kTable + kRow + 8);
  for (const std::uint64_t offset :
       {second - 8, second + 8, second + 1, std::uint64_t{0}, ~std::uint64_t{0}, ~std::uint64_t{7}})
    EXPECT_EQ(refusal(changed(1, 8, offset)), ErrorKind::Corrupt) << offset;
  for (const std::uint64_t length :
       {std::uint64_t{99}, std::uint64_t{1} << 40, ~std::uint64_t{0}, ~std::uint64_t{0} - second})
    EXPECT_EQ(refusal(changed(1, 16, length)), ErrorKind::Corrupt) << length;
}

TEST(Index, IgnoresASectionOfUnknownType) {
  Superblock superblock = counts();
  const Sections sections = {{Section::Names, some_bytes(8)}, {Section::Checksums, some_bytes(8)}};
  Bytes bytes = encode_index(superblock, sections);
  store<std::uint32_t>(bytes.data() + 120 + 32, 99);
  seal(bytes);
  const auto index = Index::decode(bytes);
  ASSERT_TRUE(index.has_value()) << index.error().message;
  EXPECT_EQ(index->section(Section::Names).size(), 8u);
}

TEST(Index, RefusesWhatIsNoIndex) {
  EXPECT_EQ(refusal({}), ErrorKind::Corrupt);
  EXPECT_EQ(refusal(some_bytes(500)), ErrorKind::Corrupt);
  EXPECT_EQ(refusal(Bytes(500)), ErrorKind::Corrupt);
}

TEST(Index, ChecksALargeIndexInTwoThreadsToo) {
  Superblock superblock = counts();
  Bytes bytes = encode_index(superblock, {{Section::Directories, some_bytes(5 << 20)},
                                          {Section::Names, some_bytes(6 << 20)}});
  EXPECT_TRUE(Index::decode(bytes).has_value());
  for (const Section s : {Section::Directories, Section::Names}) {
    Bytes damaged = bytes;
    damaged[superblock.place(s).offset + 1000] ^= std::byte{1};
    EXPECT_EQ(refusal(damaged), ErrorKind::Corrupt);
  }
}

}  // namespace
}  // namespace shardfs
