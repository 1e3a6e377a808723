#include <algorithm>

#include <fmt/format.h>

#include "fs/archive/foreign/codec_methods.h"
#include "fs/archive/foreign/crc32.h"

namespace shardfs {

namespace {

constexpr std::uint32_t kLocalMagic = 0x04034b50;
constexpr std::size_t kLocalSize = 30;  ///< the part of a local header that all have
constexpr std::size_t kFlagsAt = 6, kMethodAt = 8, kCrcAt = 14, kSizeAt = 22, kNameSizeAt = 26,
                      kExtraSizeAt = 28;
constexpr unsigned kEncrypted = 1, kHasDescriptor = 8;
constexpr std::uint32_t kDescriptorMagic = 0x08074b50;  ///< which a descriptor need not begin with

/// What users know a method by that is not decoded here.
std::string_view name_of(unsigned method) {
  switch (method) {
    case 1:
      return "shrink";
    case 6:
      return "implode";
    case 9:
      return "deflate64";
    case 97:
      return "WavPack";
    case 98:
      return "PPMd";
    case 99:
      return "AES";
    default:
      return "unknown";
  }
}

struct LocalHeader {
  LocalMember member;
  std::size_t skip = 0;  ///< bytes of name and extra field
};

Result<Method> method_of(unsigned number) {
  switch (number) {
    case 0:
      return Method::Stored;
    case 8:
      return Method::Deflate;
    case 12:
      return Method::Bzip2Stream;
    case 14:
      return Method::ZipLzma;
    case 93:
      return Method::Zstd;
    case 95:
      return Method::XzStream;
    default:
      return fail(ErrorKind::Unsupported,
                  fmt::format("zip method {} ({}) cannot be undone", number, name_of(number)));
  }
}

/// REQUIRES: kLocalSize bytes.
Result<LocalHeader> parse(ByteSpan header) {
  if (load<std::uint32_t>(header.data()) != kLocalMagic)
    return damaged("zip", "no local header where a member should be");
  const auto flags = load<std::uint16_t>(header.data() + kFlagsAt);
  if ((flags & kEncrypted) != 0)
    return fail(ErrorKind::Unsupported, "an encrypted zip member cannot be read");
  SHARDFS_TRY(const Method method, method_of(load<std::uint16_t>(header.data() + kMethodAt)));
  const std::size_t name = load<std::uint16_t>(header.data() + kNameSizeAt);
  const std::size_t extra = load<std::uint16_t>(header.data() + kExtraSizeAt);
  return LocalHeader{{.method = method,
                      .crc = load<std::uint32_t>(header.data() + kCrcAt),
                      .size = load<std::uint32_t>(header.data() + kSizeAt),
                      .has_descriptor = (flags & kHasDescriptor) != 0},
                     name + extra};
}

}  // namespace

Result<LocalMember> open_zip_member(ByteSpan& member) {
  if (member.size() < kLocalSize) return cut_short();
  SHARDFS_TRY(const LocalHeader header, parse(member.first(kLocalSize)));
  if (member.size() - kLocalSize < header.skip) return cut_short();
  member = member.subspan(kLocalSize + header.skip);
  return header.member;
}

bool is_right(const LocalMember& member, ByteSpan data, ByteSpan behind) {
  const std::uint32_t crc = crc32_of(data);
  if (member.crc == crc) return true;
  if (!member.has_descriptor || behind.size() < 8) return false;
  const auto first = load<std::uint32_t>(behind.data());
  return first == crc ||
         (first == kDescriptorMagic && load<std::uint32_t>(behind.data() + 4) == crc);
}

Result<void> ZipDecoder::begin(const Job&) {
  header_.clear();
  skip_ = 0;
  data_.reset();
  return {};
}

Result<Decoder::Progress> ZipDecoder::step(ByteSpan& in, std::span<std::byte>& out) {
  const std::size_t before = in.size();
  if (!data_) {
    const std::size_t part = std::min(in.size(), kLocalSize - header_.size());
    append(header_, in.first(part));
    in = in.subspan(part);
    if (header_.size() < kLocalSize) return Progress::More;
    SHARDFS_TRY(const LocalHeader header, parse(header_));
    skip_ = header.skip;
    data_ = new_decoder(header.member.method);
    SHARDFS_CHECK(data_->begin({.method = header.member.method}));
  }
  const std::size_t part = std::min(in.size(), skip_);
  in = in.subspan(part);
  skip_ -= part;
  // To a stored member, no input at all means the end.
  const bool used_up = in.empty() && before > 0;
  if (skip_ > 0 || used_up) return Progress::More;
  return data_->step(in, out);
}

}  // namespace shardfs
