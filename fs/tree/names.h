// Names in front-coded blocks of 16 (FORMAT.md 3.4).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <unordered_map>

#include "fs/base/bytes.h"
#include "fs/base/result.h"

namespace shardfs {

inline constexpr std::size_t kNamesPerBlock = 16;
inline constexpr std::size_t kMaxName = 255;  ///< bytes
inline constexpr std::size_t kMaxPath = 4095;
inline constexpr std::size_t kMaxXattrName = 255;

/// Whether a directory may hold `name`: 1 to 255 bytes, neither "." nor "..", without "/" and NUL.
[[nodiscard]] bool is_valid_name(std::string_view name);

/// A view over EXTENSIONS; number 0 is "no extension".
class Extensions {
 public:
  static constexpr std::size_t kMax = 255;

  /// Corrupt if the lengths do not add up.
  [[nodiscard]] static Result<Extensions> open(ByteSpan bytes);

  [[nodiscard]] std::size_t size() const { return size_; }
  /// REQUIRES: number <= size().
  [[nodiscard]] std::string_view operator[](std::size_t number) const { return texts_[number]; }

 private:
  std::array<std::string_view, kMax + 1> texts_{""};  // Not null: memcpy() wants no null.
  std::size_t size_ = 0;
};

/// Decodes the names of one block in order. Untrusted bytes: never reads outside the block. The
/// block and the extensions must outlive it.
class NameCursor {
 public:
  NameCursor(ByteSpan block, const Extensions& extensions);

  /// Goes to the next (at first: the first) name; false if the block holds none there.
  [[nodiscard]] bool next();
  /// The name next() went to, 1 to 255 bytes of any value; gone with the next next().
  [[nodiscard]] std::string_view name() const { return {buffer_, size_}; }

 private:
  [[nodiscard]] bool take_length(std::size_t half, std::size_t& length);
  [[nodiscard]] bool take_suffix(std::size_t prefix, std::size_t length);

  const std::uint8_t* at_;
  const std::uint8_t* end_;
  const Extensions& extensions_;
  bool nibbles_ = false;
  bool first_as_bytes_ = false;  ///< and it is still to come
  bool one_extension_ = false;
  std::uint8_t extension_ = 0;
  std::size_t stem_ = 0;
  std::size_t size_ = 0;
  char buffer_[kMaxName + 9];  // A nibble block writes two bytes at a time.
};

/// Counts the extensions of many names, which must outlive it, and picks those worth a number.
class ExtensionCounter {
 public:
  void count(std::string_view name);
  /// The section EXTENSIONS for the names counted.
  [[nodiscard]] Bytes pick() const;

 private:
  std::unordered_map<std::string_view, std::uint64_t> uses_;
};

/// Encodes name blocks with the extensions of an EXTENSIONS section, which must outlive it.
class NameEncoder {
 public:
  explicit NameEncoder(const Extensions& extensions);

  /// Appends the block of `names`: 1 to 16, sorted, each valid.
  void append_block(std::span<const std::string_view> names, Bytes& out) const;

 private:
  struct Split {
    std::string_view stem;
    std::uint8_t extension;
  };
  [[nodiscard]] Split split(std::string_view name) const;

  std::unordered_map<std::string_view, std::uint8_t> numbers_;
};

}  // namespace shardfs
