#include "tools/common/size.h"

#include <array>
#include <charconv>
#include <optional>

#include <fmt/format.h>

namespace shardfs {
namespace {

/// Bits that the unit's letter shifts by.
std::optional<unsigned> shift_of(std::string_view unit) {
  if (unit.empty()) return 0;
  if (unit.size() > 1) return std::nullopt;
  switch (unit.front()) {
    case 'K':
    case 'k':
      return 10;
    case 'M':
    case 'm':
      return 20;
    case 'G':
    case 'g':
      return 30;
    case 'T':
    case 't':
      return 40;
    default:
      return std::nullopt;
  }
}

}  // namespace

Result<std::uint64_t> parse_size(std::string_view text) {
  std::uint64_t number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  const auto shift = shift_of({rest, end});
  const bool fits = error == std::errc() && shift && number << *shift >> *shift == number;
  if (fits) return number << *shift;
  return fail(ErrorKind::Invalid,
              fmt::format("'{}': not a size (try: a number, or one with K, M, G or T)", text));
}

Result<std::chrono::milliseconds> parse_time(std::string_view text) {
  constexpr double kDay = 86'400'000;
  double value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, err] = std::from_chars(text.data(), end, value);
  const std::string_view unit(stop, static_cast<std::size_t>(end - stop));
  const double time = value * (unit == "ms" ? 1 : 1000);
  if (err != std::errc() || (unit != "ms" && unit != "s" && !unit.empty()) || value <= 0 ||
      !(time <= kDay))
    return fail(ErrorKind::Invalid, fmt::format("{}: not a time such as 60s or 500ms", text));
  return std::chrono::milliseconds(static_cast<std::int64_t>(time));
}

std::string format_size(std::uint64_t bytes) {
  static constexpr std::array kUnits{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  // 1023.95 would be printed as 1024.0.
  while (value >= 1023.95 && unit + 1 < kUnits.size()) value /= 1024, ++unit;
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

}  // namespace shardfs
