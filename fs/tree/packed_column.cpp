#include "fs/tree/packed_column.h"

#include <algorithm>
#include <bit>

namespace shardfs {

namespace {

constexpr std::size_t kHeader = 8;
constexpr std::size_t kGroupHeader = 16;
constexpr std::size_t kSlack = 16;  ///< so that a value's two loads stay inside the column

std::uint64_t mask_of(unsigned width) {
  return width >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << width) - 1;
}

std::uint64_t bytes_for_bits(std::uint64_t bits) { return (bits + 7) / 8; }

/// ORs `value` into zeroed bits; up to 9 bytes are touched.
void put_bits(std::byte* bits, std::uint64_t at, std::uint64_t value) {
  std::byte* to = bits + at / 8;
  const unsigned shift = at % 8;
  store(to, load<std::uint64_t>(to) | value << shift);
  if (shift != 0) to[8] |= std::byte(value >> (64 - shift));
}

struct Group {
  std::uint64_t base;
  unsigned width;
};

Group group_of(std::span<const std::uint64_t> values) {
  const auto [least, most] = std::ranges::minmax(values);
  return {least, static_cast<unsigned>(std::bit_width(most - least))};
}

std::unexpected<Error> bad_column(const char* what) {
  return fail(ErrorKind::Corrupt, std::string("index: packed column ") + what);
}

}  // namespace

Result<PackedColumn> PackedColumn::open(ByteSpan bytes, std::uint64_t expected_count) {
  if (bytes.empty() && expected_count == 0) return PackedColumn();
  if (bytes.size() < kHeader || load<std::uint64_t>(bytes.data()) != expected_count)
    return bad_column("has the wrong number of values");
  const std::uint64_t groups = expected_count / kGroup + (expected_count % kGroup != 0);
  if (groups > (bytes.size() - kHeader) / kGroupHeader) return bad_column("is cut short");
  PackedColumn column;
  column.count_ = expected_count;
  column.groups_ = bytes.data() + kHeader;
  column.bits_ = column.groups_ + groups * kGroupHeader;
  const std::uint64_t room = bytes.size() - kHeader - groups * kGroupHeader;

  std::uint64_t bits = 0;
  for (std::uint64_t g = 0; g < groups; ++g) {
    const auto place = load<std::uint64_t>(column.groups_ + g * kGroupHeader + 8);
    const std::uint64_t width = place & 0xff;
    if (width > 64 || place >> 8 != bits) return bad_column("has a group out of place");
    bits += width * std::min<std::uint64_t>(kGroup, expected_count - g * kGroup);
  }
  if (room < kSlack || bytes_for_bits(bits) > room - kSlack) return bad_column("is cut short");
  return column;
}

std::uint64_t PackedColumn::operator[](std::uint64_t i) const {
  const std::byte* group = groups_ + i / kGroup * kGroupHeader;
  const auto place = load<std::uint64_t>(group + 8);
  const unsigned width = place & 0xff;
  const std::uint64_t at = (place >> 8) + i % kGroup * width;
  const std::byte* from = bits_ + at / 8;
  const unsigned shift = at % 8;
  const std::uint64_t low = load<std::uint64_t>(from) >> shift;
  // Two shifts, for one by 64 is undefined.
  const std::uint64_t high = std::to_integer<std::uint64_t>(from[8]) << 1 << (63 - shift);
  return load<std::uint64_t>(group) + ((low | high) & mask_of(width));
}

Bytes PackedColumn::encode(std::span<const std::uint64_t> values) {
  const std::size_t groups = values.size() / kGroup + (values.size() % kGroup != 0);
  Bytes out(kHeader + groups * kGroupHeader);
  store<std::uint64_t>(out.data(), values.size());
  std::uint64_t bits = 0;
  for (std::size_t g = 0; g < groups; ++g) {
    const auto of_group = values.subspan(g * kGroup, std::min(kGroup, values.size() - g * kGroup));
    const Group group = group_of(of_group);
    store(out.data() + kHeader + g * kGroupHeader, group.base);
    store(out.data() + kHeader + g * kGroupHeader + 8, bits << 8 | group.width);
    bits += group.width * of_group.size();
  }
  const std::size_t front = out.size();
  out.resize(front + bytes_for_bits(bits) + kSlack);

  std::uint64_t at = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::byte* group = out.data() + kHeader + i / kGroup * kGroupHeader;
    const unsigned width = load<std::uint64_t>(group + 8) & 0xff;
    if (width != 0) put_bits(out.data() + front, at, values[i] - load<std::uint64_t>(group));
    at += width;
  }
  return out;
}

}  // namespace shardfs
