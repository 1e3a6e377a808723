#include "fs/tree/names.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace shardfs {

namespace {

constexpr std::uint8_t kNibbles = 1;
constexpr std::uint8_t kOneExtension = 2;
constexpr std::uint8_t kFirstAsBytes = 4;
constexpr std::size_t kLong = 15;  ///< in a half byte: the rest follows as varint

constexpr std::size_t kMinExtension = 2;
constexpr std::size_t kMaxExtension = 16;
constexpr std::uint64_t kMinUses = 16;

constexpr auto kHexPairs = [] {
  std::array<std::array<char, 2>, 256> pairs{};
  for (unsigned i = 0; i < 256; ++i)
    pairs[i] = {"0123456789abcdef"[i >> 4], "0123456789abcdef"[i & 15]};
  return pairs;
}();

constexpr bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }
constexpr unsigned hex_value(char c) {
  return static_cast<unsigned>(c <= '9' ? c - '0' : c - 'a' + 10);
}

/// The part of `name` that may become an extension; empty if none.
std::string_view extension_of(std::string_view name) {
  const std::size_t dot = name.rfind('.');
  if (dot == std::string_view::npos || dot == 0) return {};
  const std::string_view extension = name.substr(dot);
  const bool fits = extension.size() >= kMinExtension && extension.size() <= kMaxExtension;
  return fits ? extension : std::string_view{};
}

std::size_t shared_prefix(std::string_view a, std::string_view b) {
  return static_cast<std::size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

void append_lengths(Bytes& out, std::size_t prefix, std::size_t suffix) {
  out.push_back(std::byte(std::min(prefix, kLong) << 4 | std::min(suffix, kLong)));
  if (prefix >= kLong) append_varint(out, prefix - kLong);
  if (suffix >= kLong) append_varint(out, suffix - kLong);
}

void append_nibbles(Bytes& out, std::string_view text) {
  for (std::size_t i = 0; i < text.size(); i += 2) {
    const unsigned low = i + 1 < text.size() ? hex_value(text[i + 1]) : 0;
    out.push_back(std::byte(hex_value(text[i]) << 4 | low));
  }
}

}  // namespace

bool is_valid_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxName && name != "." && name != ".." &&
         std::memchr(name.data(), '/', name.size()) == nullptr &&
         std::memchr(name.data(), '\0', name.size()) == nullptr;
}

Result<Extensions> Extensions::open(ByteSpan bytes) {
  Extensions extensions;
  ByteReader reader(bytes);
  while (!reader.rest().empty()) {
    const auto length = reader.number<std::uint8_t>();
    const auto text = reader.take(*length);
    if (!text || text->empty() || extensions.size_ == kMax)
      return fail(ErrorKind::Corrupt, "index: extensions do not add up");
    extensions.texts_[++extensions.size_] = as_text(*text);
  }
  return extensions;
}

NameCursor::NameCursor(ByteSpan block, const Extensions& extensions)
    : at_(reinterpret_cast<const std::uint8_t*>(block.data())),
      end_(at_ + block.size()),
      extensions_(extensions) {
  const std::uint8_t flags = at_ == end_ ? 0 : *at_++;
  nibbles_ = (flags & kNibbles) != 0;
  one_extension_ = (flags & kOneExtension) != 0;
  first_as_bytes_ = (flags & kFirstAsBytes) != 0;
  if (one_extension_ && at_ != end_) extension_ = *at_++;
  const bool reserved = (flags & ~(kNibbles | kOneExtension | kFirstAsBytes)) != 0;
  if (reserved || (first_as_bytes_ && !nibbles_)) at_ = end_;
}

bool NameCursor::take_length(std::size_t half, std::size_t& length) {
  length = half;
  if (half < kLong) return true;
  // A length of at most 255 takes two bytes of varint.
  for (unsigned shift = 0; shift <= 7 && at_ != end_; shift += 7) {
    const std::uint8_t byte = *at_++;
    length += static_cast<std::size_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

bool NameCursor::take_suffix(std::size_t prefix, std::size_t length) {
  const bool nibbles = nibbles_ && !first_as_bytes_;
  first_as_bytes_ = false;
  const std::size_t bytes = nibbles ? (length + 1) / 2 : length;
  if (static_cast<std::size_t>(end_ - at_) < bytes) return false;
  char* to = buffer_ + prefix;
  if (nibbles) {
    for (std::size_t i = 0; i < bytes; ++i) std::memcpy(to + 2 * i, &kHexPairs[at_[i]], 2);
    if (length % 2 != 0 && (at_[bytes - 1] & 15) != 0) return false;
  } else {
    std::memcpy(to, at_, bytes);
  }
  at_ += bytes;
  return true;
}

bool NameCursor::next() {
  if (at_ == end_) return false;
  const std::uint8_t lengths = *at_++;
  std::size_t prefix, suffix;
  if (!take_length(lengths >> 4, prefix) || !take_length(lengths & 15, suffix)) return false;
  if (!one_extension_) {
    if (at_ == end_) return false;
    extension_ = *at_++;
  }
  if (prefix > stem_ || prefix + suffix > kMaxName || extension_ > extensions_.size()) return false;
  if (!take_suffix(prefix, suffix)) return false;
  stem_ = prefix + suffix;
  const std::string_view extension = extensions_[extension_];
  if (stem_ == 0 || stem_ + extension.size() > kMaxName) return false;
  extension.copy(buffer_ + stem_, extension.size());
  size_ = stem_ + extension.size();
  return true;
}

void ExtensionCounter::count(std::string_view name) {
  const std::string_view extension = extension_of(name);
  if (!extension.empty()) ++uses_[extension];
}

Bytes ExtensionCounter::pick() const {
  std::vector<std::pair<std::uint64_t, std::string_view>> worth;  // bytes saved, extension
  for (const auto& [extension, uses] : uses_)
    if (uses >= kMinUses) worth.emplace_back(uses * extension.size(), extension);
  std::ranges::sort(worth, [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  if (worth.size() > Extensions::kMax) worth.resize(Extensions::kMax);
  Bytes out;
  for (const auto& [saved, extension] : worth) {
    out.push_back(std::byte(extension.size()));
    append(out, extension);
  }
  return out;
}

NameEncoder::NameEncoder(const Extensions& extensions) {
  for (std::size_t i = 1; i <= extensions.size(); ++i)
    numbers_.emplace(extensions[i], static_cast<std::uint8_t>(i));
}

NameEncoder::Split NameEncoder::split(std::string_view name) const {
  const std::string_view extension = extension_of(name);
  const auto found = numbers_.find(extension);
  if (extension.empty() || found == numbers_.end()) return {name, 0};
  return {name.substr(0, name.size() - extension.size()), found->second};
}

void NameEncoder::append_block(std::span<const std::string_view> names, Bytes& out) const {
  std::array<Split, kNamesPerBlock> splits;
  std::array<std::size_t, kNamesPerBlock> prefixes;
  bool nibbles = true, first_as_bytes = false, one_extension = true;
  std::string_view before;
  for (std::size_t i = 0; i < names.size(); ++i) {
    splits[i] = split(names[i]);
    prefixes[i] = shared_prefix(before, splits[i].stem);
    before = splits[i].stem;
    const bool hex = std::ranges::all_of(before.substr(prefixes[i]), is_hex);
    if (i == 0) first_as_bytes = !hex;
    nibbles = nibbles && (hex || i == 0);
    one_extension = one_extension && splits[i].extension == splits[0].extension;
  }
  first_as_bytes = first_as_bytes && nibbles;

  out.push_back(std::byte((nibbles ? kNibbles : 0) | (one_extension ? kOneExtension : 0) |
                          (first_as_bytes ? kFirstAsBytes : 0)));
  if (one_extension) out.push_back(std::byte(splits[0].extension));
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::string_view suffix = splits[i].stem.substr(prefixes[i]);
    append_lengths(out, prefixes[i], suffix.size());
    if (!one_extension) out.push_back(std::byte(splits[i].extension));
    if (nibbles && !(i == 0 && first_as_bytes)) {
      append_nibbles(out, suffix);
    } else {
      append(out, suffix);
    }
  }
}

}  // namespace shardfs
