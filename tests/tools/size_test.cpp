#include "tools/common/size.h"

#include <gtest/gtest.h>

namespace shardfs {
namespace {

TEST(ParseSize, LettersArePowersOf1024) {
  EXPECT_EQ(parse_size("0"), 0u);
  EXPECT_EQ(parse_size("4096"), 4096u);
  EXPECT_EQ(parse_size("64K"), 65536u);
  EXPECT_EQ(parse_size("4m"), 4u << 20);
  EXPECT_EQ(parse_size("3G"), 3ull << 30);
  EXPECT_EQ(parse_size("2T"), 2ull << 40);
}

TEST(ParseSize, AnythingElseIsInvalid) {
  for (const char* text : {"", "K", "1KB", "1 K", "-1", "+1", "1.5M", "0x10", "12Q", "1K2"}) {
    const auto size = parse_size(text);
    ASSERT_FALSE(size) << text;
    EXPECT_EQ(size.error().kind, ErrorKind::Invalid);
    EXPECT_NE(size.error().message.find(text), std::string::npos);
  }
}

TEST(ParseTime, SecondsUnlessItSaysMilliseconds) {
  EXPECT_EQ(parse_time("60"), std::chrono::seconds(60));
  EXPECT_EQ(parse_time("1.5s"), std::chrono::milliseconds(1500));
  EXPECT_EQ(parse_time("500ms"), std::chrono::milliseconds(500));
  EXPECT_EQ(parse_time("86400"), std::chrono::hours(24));
  for (const char* text : {"", "s", "0", "-1s", "1m", "86401", "1 s", "inf", "nan", "1e300"})
    EXPECT_FALSE(parse_time(text)) << text;
}

TEST(ParseSize, WhatDoesNotFitIsInvalid) {
  EXPECT_EQ(parse_size("18446744073709551615"), 0xFFFFFFFFFFFFFFFFu);
  EXPECT_FALSE(parse_size("18446744073709551616"));
  EXPECT_EQ(parse_size("16777215T"), 16777215ull << 40);
  EXPECT_FALSE(parse_size("16777216T"));
}

TEST(FormatSize, OneDecimalAndTheLargestUnitThatFits) {
  EXPECT_EQ(format_size(0), "0 B");
  EXPECT_EQ(format_size(1023), "1023 B");
  EXPECT_EQ(format_size(1024), "1.0 KiB");
  EXPECT_EQ(format_size(16 << 20), "16.0 MiB");
  EXPECT_EQ(format_size((1 << 20) - 1), "1.0 MiB");
  EXPECT_EQ(format_size(0xFFFFFFFFFFFFFFFF), "16.0 EiB");
}

}  // namespace
}  // namespace shardfs
