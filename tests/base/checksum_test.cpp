#include "fs/base/checksum.h"

#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "fs/base/bytes.h"

namespace shardfs {
namespace {

Bytes some_bytes(std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = std::byte(i * i % 251);
  return bytes;
}

std::string hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte b : bytes) {
    text += "0123456789abcdef"[std::to_integer<int>(b) >> 4];
    text += "0123456789abcdef"[std::to_integer<int>(b) & 15];
  }
  return text;
}

// As `xxhsum -H3` and `xxhsum -H128` print them: the checksums of every shard depend on these.
TEST(Checksum, IsXxh3) {
  EXPECT_EQ(checksum64({}), 0x2d06800538d394c2u);
  EXPECT_EQ(checksum64(as_bytes("shardfs")), 0xf14b0cdf2e1865bfu);
  EXPECT_EQ(hex(digest128({})), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(hex(digest128(as_bytes("shardfs"))), "9bb1b746184bb93ff63cebfeab2f2b9f");
}

TEST(Checksum, InPartsIsTheSameAsAtOnce) {
  for (const std::size_t size : {0, 1, 16, 240, 241, 1024, 70000}) {
    const Bytes bytes = some_bytes(size);
    for (const std::size_t part : {1, 7, 256, 65536}) {
      Checksum64 checksum;
      for (std::size_t at = 0; at < size; at += part)
        checksum.update(ByteSpan(bytes).subspan(at, std::min(part, size - at)));
      EXPECT_EQ(checksum.value(), checksum64(bytes)) << size << " in parts of " << part;
    }
  }
}

TEST(Checksum, TheValueMayBeAskedForInBetween) {
  const Bytes bytes = some_bytes(1000);
  Checksum64 checksum;
  checksum.update(ByteSpan(bytes).first(400));
  EXPECT_EQ(checksum.value(), checksum64(ByteSpan(bytes).first(400)));
  Checksum64 moved = std::move(checksum);
  moved.update(ByteSpan(bytes).subspan(400));
  EXPECT_EQ(moved.value(), checksum64(bytes));
}

TEST(Checksum, EveryBitMatters) {
  Bytes bytes = some_bytes(300);
  const std::uint64_t before = checksum64(bytes);
  for (std::size_t i = 0; i < bytes.size() * 8; ++i) {
    bytes[i / 8] ^= std::byte(1 << i % 8);
    EXPECT_NE(checksum64(bytes), before);
    bytes[i / 8] ^= std::byte(1 << i % 8);
  }
}

}  // namespace
}  // namespace shardfs
