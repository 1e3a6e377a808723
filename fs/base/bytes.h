// Little-endian numbers in byte arrays, and a reader that cannot leave its array.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace shardfs {

static_assert(std::endian::native == std::endian::little,
              "index arrays are used as they lie in the archive, which is little-endian");

using Bytes = std::vector<std::byte>;
using ByteSpan = std::span<const std::byte>;

/// The number at `from`, which need not be aligned. REQUIRES: sizeof(T) readable bytes.
template <std::integral T>
[[nodiscard]] inline T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <std::integral T>
inline void store(std::byte* to, T value) {
  std::memcpy(to, &value, sizeof value);
}

template <std::integral T>
inline void append(Bytes& to, T value) {
  to.resize(to.size() + sizeof value);
  store(to.data() + to.size() - sizeof value, value);
}

// Not vector::insert: g++ 12 inlines it and warns of overflows that are none.
inline void append(Bytes& to, ByteSpan bytes) {
  to.resize(to.size() + bytes.size());
  if (!bytes.empty()) std::memcpy(to.data() + to.size() - bytes.size(), bytes.data(), bytes.size());
}

inline void append(Bytes& to, std::string_view text) {
  append(to, ByteSpan(reinterpret_cast<const std::byte*>(text.data()), text.size()));
}

[[nodiscard]] inline ByteSpan as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}

[[nodiscard]] inline std::string_view as_text(ByteSpan bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Reads forward through untrusted bytes. A read past the end gives nothing and moves nothing.
class ByteReader {
 public:
  explicit ByteReader(ByteSpan bytes) : bytes_(bytes) {}

  template <std::integral T>
  [[nodiscard]] std::optional<T> number() {
    if (bytes_.size() < sizeof(T)) return std::nullopt;
    const T value = load<T>(bytes_.data());
    bytes_ = bytes_.subspan(sizeof(T));
    return value;
  }

  /// An unsigned LEB128 number of at most 64 bits.
  [[nodiscard]] std::optional<std::uint64_t> varint() {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < bytes_.size() && i < 10; ++i) {
      const auto byte = std::to_integer<std::uint64_t>(bytes_[i]);
      if (i == 9 && byte > 1) return std::nullopt;
      value |= (byte & 0x7f) << (7 * i);
      if (byte < 0x80) {
        bytes_ = bytes_.subspan(i + 1);
        return value;
      }
    }
    return std::nullopt;
  }

  [[nodiscard]] std::optional<ByteSpan> take(std::size_t count) {
    if (bytes_.size() < count) return std::nullopt;
    const ByteSpan taken = bytes_.first(count);
    bytes_ = bytes_.subspan(count);
    return taken;
  }

  [[nodiscard]] ByteSpan rest() const { return bytes_; }

 private:
  ByteSpan bytes_;
};

/// Appends `value` as unsigned LEB128 (seven bits a byte, low ones first).
inline void append_varint(Bytes& to, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) to.push_back(std::byte(0x80 | (value & 0x7f)));
  to.push_back(std::byte(value));
}

[[nodiscard]] constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}

}  // namespace shardfs
