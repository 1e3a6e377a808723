#include "fs/tree/names.h"

#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace shardfs {
namespace {

/// EXTENSIONS and the blocks of sorted `names`.
struct Encoded {
  Bytes extensions;
  std::vector<Bytes> blocks;
};

Encoded encode(const std::vector<std::string>& names) {
  ExtensionCounter counter;
  for (const auto& name : names) counter.count(name);
  Encoded encoded{counter.pick(), {}};
  const Extensions extensions = Extensions::open(encoded.extensions).value();
  const NameEncoder encoder(extensions);
  for (std::size_t i = 0; i < names.size(); i += kNamesPerBlock) {
    const std::vector<std::string_view> block(
        names.begin() + i, names.begin() + std::min(i + kNamesPerBlock, names.size()));
    encoder.append_block(block, encoded.blocks.emplace_back());
  }
  return encoded;
}

std::vector<std::string> decode(const Encoded& encoded) {
  const Extensions extensions = Extensions::open(encoded.extensions).value();
  std::vector<std::string> names;
  for (const Bytes& block : encoded.blocks)
    for (NameCursor cursor(block, extensions); cursor.next();) names.emplace_back(cursor.name());
  return names;
}

void expect_kept(std::vector<std::string> names) {
  std::ranges::sort(names);
  ASSERT_EQ(decode(encode(names)), names);
}

std::string random_name(std::mt19937& random, std::string_view alphabet, std::size_t most) {
  std::string name(1 + random() % most, ' ');
  for (char& c : name) c = alphabet[random() % alphabet.size()];
  return name;
}

std::string any_byte() {
  std::string alphabet;
  for (int i = 1; i < 256; ++i)
    if (i != '/') alphabet.push_back(static_cast<char>(i));
  return alphabet;
}

TEST(Names, KeepsNamesOfAnyBytes) {
  std::mt19937 random(1);
  for (const std::string& alphabet :
       {std::string("ab"), std::string("0123456789abcdef"), std::string(".a"), any_byte()}) {
    for (const std::size_t most : {3, 20, 255}) {
      std::set<std::string> names;
      for (int i = 0; i < 500; ++i) names.insert(random_name(random, alphabet, most));
      expect_kept({names.begin(), names.end()});
    }
  }
}

TEST(Names, KeepsNamesThatArePrefixesOfEachOther) {
  std::vector<std::string> names;
  for (std::size_t size = 1; size <= 255; ++size) names.emplace_back(size, 'a');
  expect_kept(names);
  for (auto& name : names) name.back() = 'z';
  expect_kept(names);
}

TEST(Names, KeepsNamesAroundTheLongFormOfLengths) {
  for (const std::size_t prefix : {14, 15, 16, 127, 142, 143, 144, 200}) {
    for (const std::size_t suffix : {13, 14, 15, 16, 55}) {
      const std::string front(prefix, 'x');
      expect_kept({front + std::string(suffix, 'a'), front + std::string(suffix, 'b')});
      expect_kept({front + std::string(suffix, 'y'), front + std::string(suffix, 'z')});
    }
  }
}

TEST(Names, KeepsExtensionsOfEveryKind) {
  std::vector<std::string> names;
  for (int i = 0; i < 40; ++i) {
    names.push_back(fmt::format("{:04}.jpg", i));
    names.push_back(fmt::format("{:04}.json", i));
    names.push_back(fmt::format("{:04}.{:016}", i, i));  // too long
    names.push_back(fmt::format("{:04}.", i));           // too short
    names.push_back(fmt::format("{:04}.tar.gz", i));
    names.push_back(fmt::format(".hidden{:04}", i));
  }
  names.push_back(".jpg");  // no stem: not an extension
  names.push_back("..jpg");
  expect_kept(names);
}

TEST(Names, PicksExtensionsByBytesSaved) {
  ExtensionCounter counter;
  std::vector<std::string> names;
  for (int i = 0; i < 16; ++i) {
    names.push_back(fmt::format("{}.b", i));
    names.push_back(fmt::format("{}.a", i));
    names.push_back(fmt::format("{}.jpeg", i));
    if (i < 15) names.push_back(fmt::format("{}.rare", i));
  }
  for (const auto& name : names) counter.count(name);
  const Bytes bytes = counter.pick();
  EXPECT_EQ(as_text(bytes), "\5.jpeg\2.a\2.b");
}

TEST(Names, PicksAtMost255Extensions) {
  ExtensionCounter counter;
  std::vector<std::string> names;
  for (int e = 0; e < 300; ++e)
    for (int i = 0; i < 16; ++i) names.push_back(fmt::format("{}.{}", i, e));
  for (const auto& name : names) counter.count(name);
  EXPECT_EQ(Extensions::open(counter.pick()).value().size(), 255u);
}

TEST(Names, PacksHexDigitsTwoToAByte) {
  // Flags, extension 0; per name lengths and suffix.
  EXPECT_EQ(encode({"0123456789abcdef01234567"}).blocks[0].size(), 2 + 2 + 12u);
  EXPECT_EQ(encode({"0123456789abcdef0123456X"}).blocks[0].size(), 2 + 2 + 24u);
  // All but the first are digits behind what they share.
  EXPECT_EQ(encode({"n_10026", "n_10027", "n_10048"}).blocks[0].size(), 2 + (1 + 7) + 2 + 2u);
  EXPECT_EQ(encode({"n_10026", "n_10027", "n_1004x"}).blocks[0].size(), 2 + (1 + 7) + 2 + 3u);
}

TEST(Names, SharesOneExtensionInABlock) {
  std::vector<std::string> names;
  for (int i = 0; i < 16; ++i) names.push_back(fmt::format("{:04}.png", i));
  const Bytes block = encode(names).blocks[0];
  EXPECT_EQ(std::to_integer<int>(block[0]), 3);
  EXPECT_EQ(block.size(), 2 + (1 + 2) + 15 * (1 + 1) - 0u);
}

TEST(Names, ACursorStaysInsideEveryCutBlock) {
  std::vector<std::string> names;
  for (int i = 0; i < 16; ++i) names.push_back(fmt::format("{:030}-{}.jpeg", i * 7919, i));
  std::ranges::sort(names);
  const Encoded encoded = encode(names);
  const Extensions extensions = Extensions::open(encoded.extensions).value();
  for (std::size_t size = 0; size < encoded.blocks[0].size(); ++size) {
    const Bytes cut(encoded.blocks[0].begin(), encoded.blocks[0].begin() + size);
    std::size_t count = 0;
    for (NameCursor cursor(cut, extensions); cursor.next(); ++count)
      EXPECT_EQ(cursor.name(), names[count]);
    EXPECT_LT(count, 16u);
  }
}

TEST(Names, ACursorStaysInsideRandomBlocks) {
  std::mt19937 random(5);
  const Bytes extension_bytes = encode(std::vector<std::string>{}).extensions;
  const Extensions none = Extensions::open(extension_bytes).value();
  for (int i = 0; i < 20000; ++i) {
    Bytes block(random() % 80);
    for (auto& byte : block) byte = std::byte(random() % (i % 2 ? 256 : 16));
    std::size_t count = 0;
    for (NameCursor cursor(block, none); cursor.next(); ++count) {
      EXPECT_GE(cursor.name().size(), 1u);
      EXPECT_LE(cursor.name().size(), kMaxName);
    }
    EXPECT_LE(count, block.size());
  }
}

TEST(Names, RefusesReservedFlagsAndHalfBytes) {
  const Encoded encoded = encode({"abc"});
  const Extensions extensions = Extensions::open(encoded.extensions).value();
  Bytes block = encoded.blocks[0];
  ASSERT_TRUE(NameCursor(block, extensions).next());
  block.back() |= std::byte{1};
  EXPECT_FALSE(NameCursor(block, extensions).next());
  block = encoded.blocks[0];
  for (const int flags : {2 | 8, 2 | 0x80, 2 | 4}) {
    block[0] = std::byte(flags);
    EXPECT_FALSE(NameCursor(block, extensions).next());
  }
}

TEST(Names, RefusesExtensionsThatDoNotAddUp) {
  EXPECT_TRUE(Extensions::open(as_bytes("\4.jpg")).has_value());
  EXPECT_FALSE(Extensions::open(as_bytes("\5.jpg")).has_value());
  EXPECT_FALSE(Extensions::open(as_bytes(std::string_view("\0", 1))).has_value());
}

TEST(Names, TellsWhatADirectoryMayHold) {
  for (const char* good : {"a", "...", "..a", ".a", "-", "\xff", " "})
    EXPECT_TRUE(is_valid_name(good)) << good;
  EXPECT_TRUE(is_valid_name(std::string(255, 'x')));
  for (const char* bad : {"", ".", "..", "a/b", "/"}) EXPECT_FALSE(is_valid_name(bad)) << bad;
  EXPECT_FALSE(is_valid_name(std::string(256, 'x')));
  EXPECT_FALSE(is_valid_name(std::string_view("a\0b", 3)));
}

}  // namespace
}  // namespace shardfs
