#include "fs/tree/packed_column.h"

#include <random>

#include <gtest/gtest.h>

namespace shardfs {
namespace {

std::vector<std::uint64_t> random_values(std::mt19937_64& random, std::size_t count,
                                         unsigned width) {
  const std::uint64_t mask = width == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << width) - 1;
  const std::uint64_t base = width == 64 ? 0 : random() & ~mask & ~(mask << 1);
  std::vector<std::uint64_t> values(count);
  for (auto& value : values) value = base + (random() & mask);
  return values;
}

void expect_round_trip(const std::vector<std::uint64_t>& values) {
  const Bytes bytes = PackedColumn::encode(values);
  const auto column = PackedColumn::open(bytes, values.size());
  ASSERT_TRUE(column.has_value()) << column.error().message;
  ASSERT_EQ(column->size(), values.size());
  for (std::size_t i = 0; i < values.size(); ++i) ASSERT_EQ((*column)[i], values[i]) << i;
}

TEST(PackedColumn, KeepsValuesOfEveryWidth) {
  std::mt19937_64 random(1);
  for (unsigned width = 0; width <= 64; ++width)
    for (const std::size_t count : {1, 63, 64, 65, 200})
      expect_round_trip(random_values(random, count, width));
}

TEST(PackedColumn, MixesWidthsInOneColumn) {
  std::mt19937_64 random(2);
  std::vector<std::uint64_t> values;
  for (unsigned width = 64; width <= 64; --width) {
    const auto group = random_values(random, PackedColumn::kGroup, width);
    values.insert(values.end(), group.begin(), group.end());
  }
  expect_round_trip(values);
}

TEST(PackedColumn, KeepsBothEndsOfTheRange) {
  expect_round_trip({0, ~std::uint64_t{0}});
  expect_round_trip({~std::uint64_t{0}, ~std::uint64_t{0}});
  expect_round_trip({});
}

TEST(PackedColumn, KeepsSignedValues) {
  const std::vector<std::int64_t> values = {-1, 0, 1, INT64_MIN, INT64_MAX, -86400};
  std::vector<std::uint64_t> stored;
  for (const auto value : values)
    stored.push_back(static_cast<std::uint64_t>(value) ^ PackedColumn::kSignBit);
  const Bytes bytes = PackedColumn::encode(stored);
  const auto column = PackedColumn::open(bytes, values.size()).value();
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_EQ(column.signed_at(i), values[i]);
}

TEST(PackedColumn, AConstantColumnTakesAQuarterByteAValue) {
  const Bytes bytes = PackedColumn::encode(std::vector<std::uint64_t>(6400, 77));
  EXPECT_EQ(bytes.size(), 8 + 100 * 16 + 16);
}

TEST(PackedColumn, AnAbsentColumnIsAnEmptyOne) {
  EXPECT_TRUE(PackedColumn::open({}, 0).has_value());
  EXPECT_FALSE(PackedColumn::open({}, 1).has_value());
}

TEST(PackedColumn, RefusesAWrongCount) {
  const Bytes bytes = PackedColumn::encode(std::vector<std::uint64_t>{1, 2, 3});
  EXPECT_EQ(PackedColumn::open(bytes, 4).error().kind, ErrorKind::Corrupt);
  EXPECT_EQ(PackedColumn::open(bytes, 2).error().kind, ErrorKind::Corrupt);
}

TEST(PackedColumn, RefusesEveryCut) {
  std::mt19937_64 random(3);
  const auto values = random_values(random, 130, 13);
  const Bytes bytes = PackedColumn::encode(values);
  for (std::size_t size = 0; size < bytes.size(); ++size)
    EXPECT_FALSE(PackedColumn::open(ByteSpan(bytes).first(size), values.size()).has_value())
        << size;
}

TEST(PackedColumn, RefusesAGroupOutOfPlaceOrTooWide) {
  std::mt19937_64 random(4);
  const auto values = random_values(random, 130, 13);
  Bytes bytes = PackedColumn::encode(values);
  const std::size_t place_of_second = 8 + 16 + 8;
  const auto place = load<std::uint64_t>(bytes.data() + place_of_second);
  const std::uint64_t too_wide = (place & ~std::uint64_t{0xff}) | 65;
  for (const std::uint64_t wrong : {place + (1 << 8), place - (1 << 8), too_wide}) {
    store(bytes.data() + place_of_second, wrong);
    EXPECT_FALSE(PackedColumn::open(bytes, values.size()).has_value());
  }
}

}  // namespace
}  // namespace shardfs
