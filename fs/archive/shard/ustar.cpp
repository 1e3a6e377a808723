#include "fs/archive/shard/ustar.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <optional>

#include <fmt/format.h>
#include <sys/stat.h>

namespace shardfs {

namespace {

constexpr std::size_t kNameMax = 100;
constexpr std::size_t kPrefixMax = 155;
constexpr std::size_t kPaxNameMax = 80;  ///< of the last component, in a pax header's own name
constexpr std::string_view kComment = " comment=";
constexpr std::string_view kGlobalName = "pax_global_header";

/// A field of the header: offset and length in bytes.
struct Field {
  std::size_t offset, length;
};
constexpr Field kName{0, 100}, kMode{100, 8}, kUid{108, 8}, kGid{116, 8}, kSize{124, 12},
    kMtime{136, 12}, kChecksum{148, 8}, kType{156, 1}, kLink{157, 100}, kMagic{257, 8},
    kMajor{329, 8}, kMinor{337, 8}, kPrefix{345, 155};

/// One block of 512 bytes being filled in.
class HeaderBlock {
 public:
  void text(Field field, std::string_view value) {
    std::ranges::copy(as_bytes(value.substr(0, field.length)), block_.data() + field.offset);
  }

  /// Octal digits and NUL where the value fits, otherwise GNU's base-256.
  void number(Field field, std::int64_t value) {
    const auto bits = static_cast<unsigned>(3 * (field.length - 1));
    if (value >= 0 && static_cast<std::uint64_t>(value) >> bits == 0)
      text(field, fmt::format("{:0{}o}", value, field.length - 1));
    else
      base_256(field, value);
  }

  /// The block with its checksum: the sum of all bytes, the checksum's own being spaces.
  Bytes seal() {
    text(kMagic, std::string_view("ustar\0"
                                  "00",
                                  8));
    text(kChecksum, "        ");
    unsigned sum = 0;
    for (const std::byte b : block_) sum += std::to_integer<unsigned>(b);
    text(kChecksum, fmt::format("{:06o}", sum) + std::string("\0 ", 2));
    return {block_.begin(), block_.end()};
  }

 private:
  void base_256(Field field, std::int64_t value) {
    for (std::size_t i = 0; i < field.length; ++i) {
      const std::size_t shift = 8 * (field.length - 1 - i);
      const std::int64_t part = shift < 64 ? value >> shift : value >> 63;
      block_[field.offset + i] = std::byte(part & 0xff);
    }
    block_[field.offset] |= std::byte{0x80};
  }

  std::array<std::byte, kTarBlock> block_{};
};

void pad(Bytes& bytes) { bytes.resize(round_up(bytes.size(), kTarBlock)); }

/// The header block of one of the auxiliary kinds: pax, global, long name, long link.
Bytes auxiliary_block(std::string_view name, char type, std::uint64_t size) {
  HeaderBlock header;
  header.text(kName, name);
  header.number(kMode, 0644);
  header.number(kUid, 0);
  header.number(kGid, 0);
  header.number(kSize, static_cast<std::int64_t>(size));
  header.number(kMtime, 0);
  header.text(kType, std::string_view(&type, 1));
  header.number(kMajor, 0);
  header.number(kMinor, 0);
  return header.seal();
}

void append_auxiliary(Bytes& to, std::string_view name, char type, ByteSpan data) {
  const Bytes block = auxiliary_block(name, type, data.size());
  to.insert(to.end(), block.begin(), block.end());
  to.insert(to.end(), data.begin(), data.end());
  pad(to);
}

std::size_t digits(std::size_t n) { return fmt::formatted_size("{}", n); }

/// Size of a pax record around `body` bytes: the number in front counts itself.
std::size_t record_size(std::size_t body) {
  std::size_t size = body + digits(body);
  while (size != body + digits(size)) size = body + digits(size);
  return size;
}

/// "LENGTH KEY=VALUE\n"; `key` begins with a space and ends with "=".
void append_record(Bytes& to, std::string_view key, std::string_view value) {
  append(to, fmt::format("{}", record_size(key.size() + value.size() + 1)));
  append(to, key);
  append(to, value);
  append(to, "\n");
}

/// Decimal seconds; before 1970 the fraction counts away from zero.
std::string pax_time(const Time& t) {
  if (t.seconds >= 0 || t.nanoseconds == 0)
    return fmt::format("{}.{:09}", t.seconds, t.nanoseconds);
  return fmt::format("-{}.{:09}", -(t.seconds + 1), 1'000'000'000 - t.nanoseconds);
}

/// An attribute's name as GNU tar writes it: a pax key ends at the first "=".
std::string pax_xattr_name(std::string_view name) {
  std::string escaped;
  for (const char c : name) {
    if (c == '=') {
      escaped += "%3D";
    } else if (c == '%') {
      escaped += "%25";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

Bytes pax_records(const Member& member, bool mtime_ns) {
  Bytes records;
  if (mtime_ns && member.mtime.nanoseconds != 0)
    append_record(records, " mtime=", pax_time(member.mtime));
  for (const auto& [name, value] : member.xattrs)
    append_record(records, fmt::format(" SCHILY.xattr.{}=", pax_xattr_name(name)), as_text(value));
  return records;
}

/// Adds a comment that fills `records` up to a block, so that data that would begin at `data`
/// (without the comment) begin at a multiple of `align`.
void append_alignment(Bytes& records, std::uint64_t data, std::uint32_t align) {
  if (data % align == 0) return;
  const std::uint64_t before =
      records.empty() ? 0 : kTarBlock + round_up(records.size(), kTarBlock);
  const std::uint64_t fixed = data - before + kTarBlock;
  std::uint64_t body = round_up(records.size() + record_size(kComment.size() + 1), kTarBlock);
  while ((fixed + body) % align != 0) body += kTarBlock;
  const std::size_t size = body - records.size();
  const std::string spaces(size - digits(size) - kComment.size() - 1, ' ');
  append_record(records, kComment, spaces);
}

/// Where the path is cut into prefix and name: the "/" there is dropped. npos: it does not fit;
/// 0: no prefix is needed.
std::size_t split(std::string_view path) {
  if (path.size() <= kNameMax) return 0;
  const std::size_t slash = path.rfind('/', std::min(kPrefixMax, path.size() - 2));
  if (slash == std::string_view::npos || slash == 0) return std::string_view::npos;
  return path.size() - slash - 1 <= kNameMax ? slash : std::string_view::npos;
}

char type_flag(const Member& member) {
  if (member.hard_link) return '1';
  switch (member.mode & S_IFMT) {
    case S_IFLNK:
      return '2';
    case S_IFCHR:
      return '3';
    case S_IFBLK:
      return '4';
    case S_IFDIR:
      return '5';
    case S_IFIFO:
      return '6';
    default:
      return '0';
  }
}

bool has_data(const Member& member) { return !member.hard_link && member.is_regular(); }

Bytes ustar_block(const Member& member, std::string_view path, std::string_view link) {
  const std::size_t cut = split(path);
  const bool split_up = cut != 0 && cut != std::string_view::npos;
  const char type = type_flag(member);
  const bool device = type == '3' || type == '4';
  HeaderBlock header;
  header.text(kName, split_up ? path.substr(cut + 1) : path);
  if (split_up) header.text(kPrefix, path.substr(0, cut));
  header.number(kMode, member.mode & 07777);
  header.number(kUid, member.uid);
  header.number(kGid, member.gid);
  header.number(kSize, has_data(member) ? static_cast<std::int64_t>(member.size) : 0);
  header.number(kMtime, member.mtime.seconds);
  header.text(kType, std::string_view(&type, 1));
  header.text(kLink, link);
  header.number(kMajor, device ? member.device_major : 0);
  header.number(kMinor, device ? member.device_minor : 0);
  return header.seal();
}

/// A long name or link, with the NUL that ends it.
void append_long(Bytes& to, char type, std::string_view text) {
  Bytes data(as_bytes(text).begin(), as_bytes(text).end());
  data.push_back(std::byte{0});
  append_auxiliary(to, "././@LongLink", type, data);
}

std::string pax_name(std::string_view path) {
  const std::size_t slash = path.rfind('/', path.size() - 2);
  const std::string_view last = slash == std::string_view::npos ? path : path.substr(slash + 1);
  return fmt::format("PaxHeaders/{}", last.substr(0, kPaxNameMax));
}

}  // namespace

Bytes encode_headers(const Member& member, bool mtime_ns, std::uint32_t align,
                     std::uint64_t position) {
  const bool directory = !member.hard_link && member.is_directory();
  const std::string path = directory ? member.path + "/" : member.path;
  const std::string_view link =
      member.hard_link || member.is_symlink() ? std::string_view(member.link) : "";
  Bytes tail;
  if (split(path) == std::string_view::npos) append_long(tail, 'L', path);
  if (link.size() > kNameMax) append_long(tail, 'K', link);
  const Bytes block = ustar_block(member, path, link);
  tail.insert(tail.end(), block.begin(), block.end());

  Bytes records = pax_records(member, mtime_ns);
  if (align != 0 && has_data(member) && member.size >= kAlignFrom) {
    const std::uint64_t pax = records.empty() ? 0 : kTarBlock + round_up(records.size(), kTarBlock);
    append_alignment(records, position + pax + tail.size(), align);
  }
  if (records.empty()) return tail;
  Bytes all;
  append_auxiliary(all, pax_name(path), 'x', records);
  all.insert(all.end(), tail.begin(), tail.end());
  return all;
}

Bytes encode_global_header(std::string_view value) {
  Bytes record;
  record.reserve(value.size() + 32);
  append_record(record, kComment, value);
  Bytes all;
  all.reserve(record.size() + 2 * kTarBlock);
  append_auxiliary(all, kGlobalName, 'g', record);
  return all;
}

std::uint64_t comment_record_size(std::uint64_t value_size) {
  return record_size(kComment.size() + value_size + 1);
}

std::optional<std::uint64_t> global_header_record_size(ByteSpan bytes) {
  if (bytes.size() < kTarBlock) return std::nullopt;
  const std::string_view field = as_text(bytes.subspan(kSize.offset, kSize.length - 1));
  std::uint64_t size = 0;
  const auto [end, error] = std::from_chars(field.begin(), field.end(), size, 8);
  if (error != std::errc() || end != field.end()) return std::nullopt;
  const Bytes expected = auxiliary_block(kGlobalName, 'g', size);
  if (!std::ranges::equal(expected, bytes.first(kTarBlock))) return std::nullopt;
  return size;
}

std::optional<std::string_view> comment_value(ByteSpan record) {
  const std::string_view text = as_text(record);
  const std::string prefix = fmt::format("{}{}", text.size(), kComment);
  if (!text.starts_with(prefix) || text.size() == prefix.size() || text.back() != '\n')
    return std::nullopt;
  return text.substr(prefix.size(), text.size() - prefix.size() - 1);
}

}  // namespace shardfs
