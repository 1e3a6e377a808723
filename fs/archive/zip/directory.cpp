#include "fs/archive/zip/directory.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <sys/stat.h>

#include "fs/archive/foreign/crc32.h"
#include "fs/archive/zip/records.h"
#include "fs/base/bytes.h"

namespace shardfs {

namespace {

constexpr std::size_t kCentralSize = 46;
constexpr std::uint32_t kSee64 = 0xffffffff;  ///< the number is in the zip64 extra field
constexpr std::uint16_t kSee64Disk = 0xffff;

/// Systems that a member may come from, of those that matter here.
constexpr std::uint8_t kDos = 0, kUnix = 3, kDarwin = 19;

/// Flags of a member.
constexpr std::uint16_t kEncrypted = 1 << 0, kPatch = 1 << 5, kStrong = 1 << 6, kMasked = 1 << 13;

/// Attributes of a file, as DOS has them.
constexpr std::uint32_t kReadOnly = 1 << 0, kDirectory = 1 << 4;

/// Looks at one part of a file after the other, going forward, with few large requests.
class Window {
 public:
  Window(const ByteSource& source, std::uint64_t end) : source_(source), end_(end) {}

  /// Valid until the next call. REQUIRES: offset + size <= end.
  Result<ByteSpan> at(std::uint64_t offset, std::size_t size) {
    if (offset < offset_ || offset + size > offset_ + bytes_.size()) {
      bytes_.resize(std::min(end_ - offset, std::max<std::uint64_t>(size, kStoreRequest)));
      offset_ = offset;
      SHARDFS_CHECK(source_.read_at(offset, bytes_));
    }
    return ByteSpan(bytes_).subspan(offset - offset_, size);
  }

 private:
  const ByteSource& source_;
  std::uint64_t end_;
  std::uint64_t offset_ = 0;
  Bytes bytes_;
};

/// A central header, taken apart.
struct Header {
  std::uint8_t host = 0;  ///< the system it comes from
  std::uint16_t flags = 0, method = 0, dos_time = 0, dos_date = 0;
  std::uint64_t packed = 0, size = 0, offset = 0;
  std::uint32_t disk = 0, attributes = 0;
  ByteSpan name = {}, extra = {};
  std::optional<Time> unix_time = {}, windows_time = {};
  std::uint32_t uid = 0, gid = 0;
};

std::size_t whole_size(ByteSpan fixed) {
  std::size_t size = kCentralSize;
  for (const std::size_t field : {28, 30, 32}) size += load<std::uint16_t>(&fixed[field]);
  return size;
}

/// REQUIRES: whole_size() bytes.
Header decode_fixed(ByteSpan bytes) {
  const std::byte* at = bytes.data();
  Header header{.host = load<std::uint8_t>(at + 5),
                .flags = load<std::uint16_t>(at + 8),
                .method = load<std::uint16_t>(at + 10),
                .dos_time = load<std::uint16_t>(at + 12),
                .dos_date = load<std::uint16_t>(at + 14),
                .packed = load<std::uint32_t>(at + 20),
                .size = load<std::uint32_t>(at + 24),
                .offset = load<std::uint32_t>(at + 42),
                .disk = load<std::uint16_t>(at + 34),
                .attributes = load<std::uint32_t>(at + 38)};
  header.name = bytes.subspan(kCentralSize, load<std::uint16_t>(at + 28));
  header.extra = bytes.subspan(kCentralSize + header.name.size(), load<std::uint16_t>(at + 30));
  return header;
}

/// Numbers that did not fit the header. Nothing if one of them is not there.
std::optional<Header> take_zip64(Header header, ByteReader in) {
  for (std::uint64_t* number : {&header.size, &header.packed, &header.offset}) {
    if (*number != kSee64) continue;
    const auto value = in.number<std::uint64_t>();
    if (!value) return std::nullopt;
    *number = *value;
  }
  if (header.disk == kSee64Disk) {
    const auto disk = in.number<std::uint32_t>();
    if (!disk) return std::nullopt;
    header.disk = *disk;
  }
  return header;
}

/// The flags tell what a local header has; here there is the time of modification, if any.
std::optional<Time> take_unix_time(ByteReader in) {
  const auto flags = in.number<std::uint8_t>();
  const auto seconds = in.number<std::int32_t>();
  if (!flags || (*flags & 1) == 0 || !seconds) return std::nullopt;
  return Time{.seconds = *seconds};
}

/// What Info-ZIP's first Unix field has, as macOS writes it: the times of access and modification.
std::optional<Time> take_old_time(ByteReader in) {
  const auto accessed = in.number<std::int32_t>();
  const auto modified = in.number<std::int32_t>();
  if (!accessed || !modified) return std::nullopt;
  return Time{.seconds = *modified};
}

/// The name in UTF-8, if it belongs to the one in the header.
void take_name(Header& header, ByteReader in) {
  const auto version = in.number<std::uint8_t>();
  const auto crc = in.number<std::uint32_t>();
  if (version != 1 || !crc || in.rest().empty()) return;
  if (*crc == crc32_of(header.name)) header.name = in.rest();
}

/// Steps of 100 ns since 1601.
std::optional<Time> take_windows_time(ByteReader in) {
  constexpr std::uint64_t kSteps = 10'000'000;
  constexpr std::int64_t kSecondsTo1970 = 11'644'473'600;
  if (!in.take(4)) return std::nullopt;  // reserved
  while (true) {
    const auto tag = in.number<std::uint16_t>();
    const auto size = in.number<std::uint16_t>();
    const auto value = size ? in.take(*size) : std::nullopt;
    if (!tag || !value) return std::nullopt;
    if (*tag != 1 || value->size() < sizeof(std::uint64_t)) continue;
    const auto steps = load<std::uint64_t>(value->data());
    return Time{.seconds = static_cast<std::int64_t>(steps / kSteps) - kSecondsTo1970,
                .nanoseconds = static_cast<std::uint32_t>(steps % kSteps * 100)};
  }
}

/// A number of as many bytes as a byte in front of it says.
std::optional<std::uint32_t> take_id(ByteReader& in) {
  const auto size = in.number<std::uint8_t>();
  const auto bytes = size ? in.take(*size) : std::nullopt;
  if (!bytes || bytes->empty()) return std::nullopt;
  std::uint64_t id = 0;
  for (std::size_t i = bytes->size(); i-- > 0;) {
    if (id >> 24 != 0) return std::nullopt;
    id = id << 8 | std::to_integer<std::uint64_t>((*bytes)[i]);
  }
  return static_cast<std::uint32_t>(id);
}

void take_owner(Header& header, ByteReader in) {
  if (in.number<std::uint8_t>() != 1) return;  // version
  const auto uid = take_id(in);
  const auto gid = take_id(in);
  if (!uid || !gid) return;
  header.uid = *uid;
  header.gid = *gid;
}

/// Takes what the extra fields tell. From one on that leaves its place they are padding: some tools
/// bring data to an alignment with it. False if numbers are missing that the header leads to.
bool take_extra(Header& header) {
  for (ByteReader in(header.extra);;) {
    const auto tag = in.number<std::uint16_t>();
    const auto size = in.number<std::uint16_t>();
    const auto field = size ? in.take(*size) : std::nullopt;
    if (!tag || !field) return true;
    if (*tag == 0x0001) {
      const auto with = take_zip64(header, ByteReader(*field));
      if (!with) return false;
      header = *with;
    }
    if (*tag == 0x5455) header.unix_time = take_unix_time(ByteReader(*field));
    if (*tag == 0x5855 && !header.unix_time) header.unix_time = take_old_time(ByteReader(*field));
    if (*tag == 0x7075) take_name(header, ByteReader(*field));
    if (*tag == 0x000a) header.windows_time = take_windows_time(ByteReader(*field));
    if (*tag == 0x7875) take_owner(header, ByteReader(*field));
  }
}

/// DOS time has no time zone. It is taken as UTC, so that an archive looks the same everywhere;
/// other tools take it as local time.
Time from_dos(std::uint16_t date, std::uint16_t time) {
  // A month of 0 is what writers put that know no time.
  const unsigned month = std::clamp((date >> 5) & 15u, 1u, 12u);
  const unsigned day = std::max(date & 31u, 1u);
  const std::chrono::sys_days days =
      std::chrono::year(1980 + (date >> 9)) / std::chrono::month(month) / std::chrono::day(day);
  const std::int64_t seconds = (time >> 11) * 3600 + ((time >> 5) & 63) * 60 + (time & 31) * 2;
  return {.seconds = days.time_since_epoch().count() * std::int64_t{86400} + seconds};
}

bool has_unix_mode(const Header& header) { return header.host == kUnix || header.host == kDarwin; }

/// Type and permissions. A name that ends in "/" is a directory's, whatever else is said.
std::uint32_t mode_of(const Header& header, bool slash_at_end) {
  const std::uint32_t told = has_unix_mode(header) ? header.attributes >> 16 : 0;
  const bool dos_directory =
      !has_unix_mode(header) && (header.attributes & kDirectory) != 0 && header.size == 0;
  if (S_ISDIR(told)) return told;
  // Permissions that were meant for a file would let nobody in.
  if (slash_at_end || dos_directory) return S_IFDIR | (told == 0 ? 0755 : (told & 07777) | 0111);
  if (told == 0) return S_IFREG | ((header.attributes & kReadOnly) != 0 ? 0444 : 0644);
  return (told & S_IFMT) == 0 ? S_IFREG | told : told;
}

/// "\\" of DOS and Windows, which some writers leave.
bool has_backslashes(const Header& header) {
  const std::string_view name = as_text(header.name);
  return header.host == kDos && name.contains('\\') && !name.contains('/');
}

/// Most names are what plain_path() makes of them.
bool is_plain(std::string_view name) {
  return !name.starts_with('/') && !name.ends_with('/') && !name.contains("//") &&
         !name.contains("./") && !name.ends_with('.');
}

/// The components of `name` that mean something, with one "/" between each two.
std::string plain_path(std::string_view name) {
  std::string path;
  for (std::size_t at = 0; at < name.size();) {
    const std::size_t slash = std::min(name.find('/', at), name.size());
    const std::string_view part = name.substr(at, slash - at);
    if (!part.empty() && part != ".") path.append(path.empty() ? "" : "/").append(part);
    at = slash + 1;
  }
  return path;
}

/// Why the member cannot be read here; "" if it can.
std::string obstacle(const Header& header) {
  using namespace zip_method;
  constexpr std::uint16_t kAes = 99;
  if ((header.flags & (kEncrypted | kStrong | kMasked)) != 0 || header.method == kAes)
    return "encrypted; try: unpack it with its password and mkshard the directory";
  constexpr std::pair<std::uint16_t, std::string_view> kNames[] = {
      {1, "shrink"},       {2, "reduce"},      {3, "reduce"},    {4, "reduce"},
      {5, "reduce"},       {6, "implode"},     {9, "deflate64"}, {10, "PKWARE's implode"},
      {18, "IBM's TERSE"}, {19, "IBM's LZ77"}, {96, "JPEG"},     {97, "WavPack"},
      {98, "PPMd"}};
  const bool known =
      std::ranges::count(
          std::initializer_list<std::uint16_t>{kStored, kDeflate, kBzip2, kLzma, kZstd, kXz},
          header.method) != 0;
  if (known && (header.flags & kPatch) == 0) return "";
  const auto* name = std::ranges::find(kNames, header.method, [](auto pair) { return pair.first; });
  return fmt::format("compression method {}{}{}; try: unpack it and mkshard the directory",
                     header.method,
                     name == std::end(kNames) ? "" : fmt::format(" ({})", name->second),
                     known ? " with patches" : "");
}

/// Makes members of central headers.
class Taker {
 public:
  Taker(const ByteSource& source, const DirectoryPlace& place, ZipDirectory& directory)
      : source_(source), place_(place), directory_(directory) {}

  /// REQUIRES: whole_size() bytes.
  Result<void> take(ByteSpan bytes) {
    Header header = decode_fixed(bytes);
    if (!take_extra(header)) return corrupt(header, "its sizes are missing");
    if (header.disk != 0) return fail_of(ErrorKind::Unsupported, header, "in another volume");
    if (const std::string why = obstacle(header); !why.empty())
      return fail_of(ErrorKind::Unsupported, header, why);
    const std::uint64_t room = place_.begin - place_.shift;
    if (room < kLocalSize || header.offset > room - kLocalSize)
      return corrupt(header, "said to be where it cannot be");
    add(header);
    return {};
  }

 private:
  void add(const Header& header) {
    ZipMember& member = directory_.members.emplace_back();
    std::string_view name = as_text(header.name);
    if (has_backslashes(header)) {
      slashed_ = name;
      std::ranges::replace(slashed_, '\\', '/');
      name = slashed_;
    }
    member.path = directory_.keep(is_plain(name) ? name : plain_path(name));
    member.mode = mode_of(header, name.ends_with('/'));
    member.header = header.offset + place_.shift;
    member.packed = header.packed;
    member.size = header.size;
    member.method = header.method;
    member.name_size = static_cast<std::uint16_t>(header.name.size());
    member.uid = header.uid;
    member.gid = header.gid;
    member.mtime = header.unix_time      ? *header.unix_time
                   : header.windows_time ? *header.windows_time
                                         : from_dos(header.dos_date, header.dos_time);
  }

  std::unexpected<Error> fail_of(ErrorKind kind, const Header& header,
                                 std::string_view what) const {
    return fail(kind, fmt::format("{}: {}: {}", source_.name(), as_text(header.name), what));
  }
  std::unexpected<Error> corrupt(const Header& header, std::string_view what) const {
    return fail_of(ErrorKind::Corrupt, header, fmt::format("{}: a damaged zip archive", what));
  }

  const ByteSource& source_;
  const DirectoryPlace& place_;
  ZipDirectory& directory_;
  std::string slashed_;
};

}  // namespace

bool ZipMember::is_regular() const { return S_ISREG(mode); }
bool ZipMember::is_symlink() const { return S_ISLNK(mode); }

std::string_view ZipDirectory::keep(std::string_view text) {
  if (text.empty()) return {};
  auto* kept = static_cast<char*>(texts.allocate(text.size(), 1));
  std::memcpy(kept, text.data(), text.size());
  return {kept, text.size()};
}

Result<void> read_zip_directory(const ByteSource& source, const DirectoryPlace& place,
                                ZipDirectory& directory) {
  const auto damaged = [&](std::uint64_t at) {
    return fail(ErrorKind::Corrupt,
                fmt::format("{}: a damaged zip archive: its directory is wrong (at byte {})",
                            source.name(), at));
  };
  Window window(source, place.end);
  Taker taker(source, place, directory);
  std::uint64_t at = place.begin;
  std::uint64_t count = 0;
  while (place.end - at >= kCentralSize) {
    SHARDFS_TRY(const ByteSpan fixed, window.at(at, kCentralSize));
    const auto magic = load<std::uint32_t>(fixed.data());
    if (magic == kSignatureMagic) break;
    const std::size_t size = whole_size(fixed);
    if (magic != kCentralMagic || size > place.end - at) return damaged(at);
    SHARDFS_TRY(const ByteSpan whole, window.at(at, size));
    SHARDFS_CHECK(taker.take(whole));
    at += size;
    ++count;
  }
  // Writers without zip64 of more members than the field can tell leave its high bits away.
  if (place.zip64 ? count != place.members : (count & 0xffff) != place.members) return damaged(at);
  return {};
}

}  // namespace shardfs
