#include "fs/archive/shard/trailer.h"

#include <charconv>
#include <span>

#include <fmt/format.h>

#include "fs/archive/shard/ustar.h"
#include "fs/base/checksum.h"

namespace shardfs {

namespace {

constexpr std::size_t kDigits = 16;

/// Takes `key` and 16 hexadecimal digits from the front of `text`.
std::optional<std::uint64_t> take(std::string_view& text, std::string_view key) {
  if (!text.starts_with(key) || text.size() < key.size() + kDigits) return std::nullopt;
  const std::string_view field = text.substr(key.size(), kDigits);
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(field.begin(), field.end(), value, 16);
  if (error != std::errc() || end != field.end()) return std::nullopt;
  text.remove_prefix(key.size() + kDigits);
  return value;
}

}  // namespace

std::string Trailer::encode() const {
  std::string text = fmt::format(
      "shardfs-trailer 1 self={:016x} end={:016x} size={:016x} superblock={:016x} tail={:016x}",
      self, end, size, superblock, tail);
  for (std::size_t i = 0; i < runs.size(); ++i)
    text += fmt::format("{}{:016x}", i == 0 ? " runs=" : ",", runs[i]);
  return text + fmt::format(" check={:016x}", checksum64(as_bytes(text)));
}

std::optional<Trailer> Trailer::decode(std::string_view value) {
  std::string_view rest = value;
  const auto self = take(rest, "shardfs-trailer 1 self=");
  const auto end = take(rest, " end=");
  const auto size = take(rest, " size=");
  const auto superblock = take(rest, " superblock=");
  const auto tail = take(rest, " tail=");
  if (!self || !end || !size || !superblock || !tail) return std::nullopt;
  Trailer trailer{*self, *end, *size, *superblock, *tail, {}};
  for (auto run = take(rest, " runs="); run; run = take(rest, ",")) trailer.runs.push_back(*run);
  // Encoding it again compares everything at once: case of digits, order, check, nothing behind.
  if (trailer.encode() != value) return std::nullopt;
  return trailer;
}

std::uint64_t Trailer::size_with(std::uint64_t runs) {
  Trailer any;
  any.runs.resize(runs);
  return encode_global_header(any.encode()).size();
}

}  // namespace shardfs
