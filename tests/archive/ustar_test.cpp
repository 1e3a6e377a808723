// Headers byte by byte.
#include "fs/archive/shard/ustar.h"

#include <gmock/gmock.h>

#include "fs/base/checksum.h"
#include "tests/archive/packed.h"

namespace shardfs::testing {
namespace {

std::string field(const Bytes& headers, std::size_t block, std::size_t offset, std::size_t length) {
  return std::string(as_text(ByteSpan(headers).subspan(block * 512 + offset, length)));
}

std::string zero_ended(const Bytes& headers, std::size_t block, std::size_t offset,
                       std::size_t length) {
  return field(headers, block, offset, length).c_str();
}

/// The checksum of the last block, computed anew.
unsigned sum_of(const Bytes& headers, std::size_t block) {
  unsigned sum = 0;
  for (std::size_t i = 0; i < 512; ++i)
    sum += i >= 148 && i < 156 ? ' ' : std::to_integer<unsigned>(headers[block * 512 + i]);
  return sum;
}

Bytes headers(const Member& m) { return encode_headers(m, false, 0, 0); }

TEST(Ustar, AFileTakesOneBlock) {
  const Bytes h = headers(file("dir/name", prose(1000)).member);
  ASSERT_EQ(h.size(), 512u);
  EXPECT_EQ(zero_ended(h, 0, 0, 100), "dir/name");
  EXPECT_EQ(field(h, 0, 100, 8), std::string("0000644\0", 8));
  EXPECT_EQ(field(h, 0, 108, 8), std::string("0001750\0", 8));
  EXPECT_EQ(field(h, 0, 116, 8), std::string("0001750\0", 8));
  EXPECT_EQ(field(h, 0, 124, 12), std::string("00000001750\0", 12));
  EXPECT_EQ(field(h, 0, 136, 12), std::string("14524770400\0", 12));
  EXPECT_EQ(field(h, 0, 156, 1), "0");
  EXPECT_EQ(field(h, 0, 257, 8), std::string("ustar\0"
                                             "00",
                                             8));
  EXPECT_EQ(field(h, 0, 265, 64), std::string(64, '\0'));  // uname, gname
  EXPECT_EQ(field(h, 0, 329, 16), std::string("0000000\0"
                                              "0000000\0",
                                              16));
  EXPECT_EQ(std::stoul(field(h, 0, 148, 6), nullptr, 8), sum_of(h, 0));
  EXPECT_EQ(field(h, 0, 154, 2), std::string("\0 ", 2));
}

TEST(Ustar, EachTypeHasItsFlag) {
  const std::pair<File, char> types[] = {
      {directory("d"), '5'},
      {symlink("s", "to"), '2'},
      {hard_link("h", "to"), '1'},
      {{member("p", 010644), {}}, '6'},
      {{member("c", 020644), {}}, '3'},
      {{member("b", 060644), {}}, '4'},
  };
  for (const auto& [f, flag] : types) {
    const Bytes h = headers(f.member);
    ASSERT_EQ(h.size(), 512u);
    EXPECT_EQ(field(h, 0, 156, 1), std::string(1, flag));
    EXPECT_EQ(field(h, 0, 124, 12), std::string("00000000000\0", 12));
  }
  EXPECT_EQ(zero_ended(headers(directory("d").member), 0, 0, 100), "d/");
  EXPECT_EQ(zero_ended(headers(symlink("s", "to").member), 0, 157, 100), "to");
}

TEST(Ustar, ALongPathIsSplitAtTheLastSlashThatFits) {
  const std::string name(100, 'n');
  const Bytes h = headers(file("a/" + std::string(150, 'p') + "/" + name, {}).member);
  ASSERT_EQ(h.size(), 512u);
  EXPECT_EQ(zero_ended(h, 0, 0, 100).substr(0, 100), name);
  EXPECT_EQ(zero_ended(h, 0, 345, 155), "a/" + std::string(150, 'p'));
}

TEST(Ustar, WhatDoesNotFitGoesIntoLongNames) {
  const std::string path = std::string(200, 'p') + "/x";
  File f = symlink(path, std::string(101, 't'));
  const Bytes h = headers(f.member);
  ASSERT_EQ(h.size(), 5 * 512u);
  EXPECT_EQ(zero_ended(h, 0, 0, 100), "././@LongLink");
  EXPECT_EQ(field(h, 0, 156, 1), "L");
  EXPECT_EQ(field(h, 0, 124, 12), std::string("00000000313\0", 12));  // 203 with the NUL
  EXPECT_EQ(zero_ended(h, 1, 0, 512), path);
  EXPECT_EQ(field(h, 2, 156, 1), "K");
  EXPECT_EQ(zero_ended(h, 3, 0, 512), f.member.link);
  EXPECT_EQ(field(h, 4, 0, 100), path.substr(0, 100));
  EXPECT_EQ(field(h, 4, 157, 100), f.member.link.substr(0, 100));
}

TEST(Ustar, LargeNumbersAreBase256) {
  Member m = member("x", 0100644);
  m.uid = 07777777;
  m.gid = 010000000;
  m.size = (std::uint64_t{1} << 33) - 1;
  m.mtime = {-2, 5};
  Bytes h = headers(m);
  EXPECT_EQ(field(h, 0, 108, 8), std::string("7777777\0", 8));
  EXPECT_EQ(field(h, 0, 116, 8), std::string("\x80\0\0\0\0\x20\0\0", 8));
  EXPECT_EQ(field(h, 0, 124, 12), std::string("77777777777\0", 12));
  EXPECT_EQ(field(h, 0, 136, 12), std::string(11, '\xff') + "\xfe");
  ++m.size;
  EXPECT_EQ(field(headers(m), 0, 124, 12), std::string("\x80\0\0\0\0\0\0\x02\0\0\0\0", 12));
}

TEST(Ustar, PaxRecordsCountTheirOwnLength) {
  Member m = member("d/x", 0100644);
  m.mtime = {-2, 500000000};
  // Values that make the record 99, 100 and 101 bytes long, around the next digit.
  for (const std::size_t size : {75u, 76u, 77u, 78u}) {
    m.xattrs = {{"user.a", Bytes(size, std::byte{'v'})}};
    const Bytes h = encode_headers(m, true, 0, 0);
    EXPECT_EQ(zero_ended(h, 0, 0, 100), "PaxHeaders/x");
    EXPECT_EQ(field(h, 0, 156, 1), "x");
    const std::size_t length = std::stoul(field(h, 0, 124, 11), nullptr, 8);
    const std::string records = field(h, 1, 0, length);
    EXPECT_TRUE(records.starts_with("22 mtime=-1.500000000\n")) << records;
    EXPECT_EQ(std::stoul(records.substr(22)), records.size() - 22);
    EXPECT_TRUE(records.ends_with("v\n"));
  }
}

TEST(Ustar, ACommentAlignsTheData) {
  for (const std::uint32_t align : {512u, 4096u, 65536u, 524288u}) {
    for (std::uint64_t position = 0; position < 2 * align; position += 512 * 7) {
      Member m = file("x", noise(65536, 1)).member;
      if (position % 1024 == 0) m.xattrs = {{"user.a", Bytes(500, std::byte{'v'})}};
      const Bytes h = encode_headers(m, false, align, position);
      EXPECT_EQ((position + h.size()) % align, 0u);
      m.size = 65535;
      EXPECT_EQ(encode_headers(m, false, align, position), headers(m));
    }
  }
}

TEST(GlobalHeader, IsRecognised) {
  for (const std::size_t size : {1u, 85u, 86u, 87u, 988u, 10000u}) {
    const std::string value(size, 'v');
    const Bytes h = encode_global_header(value);
    EXPECT_EQ(h.size() % 512, 0u);
    const auto record = global_header_record_size(h);
    ASSERT_TRUE(record);
    EXPECT_EQ(*record, comment_record_size(size));
    EXPECT_EQ(comment_value(ByteSpan(h).subspan(512, *record)), value);
  }
}

TEST(GlobalHeader, AnythingElseIsNone) {
  const Bytes h = encode_global_header("value");
  for (std::size_t i = 0; i < 512; ++i) {
    Bytes other = h;
    other[i] ^= std::byte{1};
    const auto size = global_header_record_size(other);
    EXPECT_FALSE(size) << i;
  }
  EXPECT_FALSE(global_header_record_size(ByteSpan(h).first(511)));
  for (const std::string_view record :
       {"17 comment=value\n ", "16 comment=value\n", "17 comment=valuex", "017 comment=value\n",
        "17 commend=value\n", "", "17"})
    EXPECT_FALSE(comment_value(as_bytes(record))) << record;
  EXPECT_TRUE(comment_value(as_bytes("17 comment=value\n")));
}

}  // namespace
}  // namespace shardfs::testing
