#include "fs/base/bytes.h"

#include <limits>

#include <gtest/gtest.h>

namespace shardfs {
namespace {

TEST(Bytes, NumbersAreLittleEndianAndNeedNoAlignment) {
  Bytes bytes(1);
  append<std::uint32_t>(bytes, 0x04030201);
  append<std::uint64_t>(bytes, 0x0c0b0a0908070605);
  ASSERT_EQ(bytes.size(), 13u);
  for (std::size_t i = 0; i < bytes.size(); ++i)
    EXPECT_EQ(std::to_integer<std::size_t>(bytes[i]), i);
  EXPECT_EQ(load<std::uint32_t>(bytes.data() + 1), 0x04030201u);
  store<std::uint16_t>(bytes.data() + 3, 0xbeef);
  EXPECT_EQ(load<std::uint16_t>(bytes.data() + 3), 0xbeef);
}

TEST(Bytes, TextAndBytesAreAppended) {
  Bytes bytes;
  append(bytes, std::string_view("ab"));
  append(bytes, std::string_view());
  append(bytes, as_bytes("cd"));
  EXPECT_EQ(as_text(bytes), "abcd");
}

TEST(ByteReader, TakesInOrderAndNeverMore) {
  Bytes bytes;
  append<std::uint16_t>(bytes, 7);
  append(bytes, std::string_view("abc"));
  ByteReader reader(bytes);
  EXPECT_EQ(reader.number<std::uint16_t>(), 7);
  EXPECT_FALSE(reader.number<std::uint32_t>().has_value());
  EXPECT_FALSE(reader.take(4).has_value());
  EXPECT_EQ(as_text(*reader.take(2)), "ab");
  EXPECT_EQ(as_text(reader.rest()), "c");
  EXPECT_EQ(reader.number<std::uint8_t>(), 'c');
  EXPECT_FALSE(reader.number<std::uint8_t>().has_value());
  EXPECT_TRUE(reader.take(0).has_value());
}

TEST(ByteReader, VarintsOfEverySize) {
  for (int bits = 0; bits < 64; ++bits) {
    for (const std::uint64_t value :
         {(std::uint64_t{1} << bits) - 1, std::uint64_t{1} << bits, ~std::uint64_t{0} >> bits}) {
      Bytes bytes;
      append_varint(bytes, value);
      ByteReader reader(bytes);
      EXPECT_EQ(reader.varint(), value);
      EXPECT_TRUE(reader.rest().empty());
      bytes.pop_back();
      EXPECT_FALSE(ByteReader(bytes).varint().has_value());
    }
  }
}

TEST(ByteReader, VarintsBeyond64BitsAreNone) {
  Bytes bytes(9, std::byte{0xff});
  bytes.push_back(std::byte{1});
  EXPECT_EQ(ByteReader(bytes).varint(), std::numeric_limits<std::uint64_t>::max());
  bytes.back() = std::byte{2};
  ByteReader reader(bytes);
  EXPECT_FALSE(reader.varint().has_value());
  EXPECT_EQ(reader.rest().size(), bytes.size());
  const Bytes endless(20, std::byte{0x80});
  EXPECT_FALSE(ByteReader(endless).varint().has_value());
}

TEST(Bytes, RoundsUp) {
  EXPECT_EQ(round_up(0, 512), 0u);
  EXPECT_EQ(round_up(1, 512), 512u);
  EXPECT_EQ(round_up(512, 512), 512u);
  EXPECT_EQ(round_up(513, 512), 1024u);
}

}  // namespace
}  // namespace shardfs
