#include "fs/archive/zip/places.h"

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "fs/archive/foreign/block_table.h"
#include "fs/archive/foreign/codec.h"
#include "fs/archive/zip/records.h"
#include "fs/base/bytes.h"
#include "fs/tree/names.h"

namespace shardfs {

namespace {

/// Bytes read in vain rather than ask once more.
constexpr std::uint64_t kGap = 256 * 1024;

/// No method makes more of a text of kMaxPath bytes.
constexpr std::uint64_t kMostPackedLink = 64 * 1024;

/// What a local header, its name and extra fields, and a descriptor can take besides the data.
constexpr std::uint64_t kMostBesides = kLocalSize + 2 * 0xffff + 24;

/// The first `size` bytes of a member, from its local header on.
struct Wanted {
  ZipMember* member = nullptr;
  std::uint64_t size = 0;
};

class Placer {
 public:
  Placer(const ByteSource& source, ZipDirectory& directory)
      : source_(source), directory_(directory) {}

  /// `end`: where the directory begins.
  Result<void> measure(std::uint64_t end);
  Result<void> read_all();

 private:
  [[nodiscard]] Result<void> check(const ZipMember& member) const;
  void want(ZipMember& member);
  Result<void> read_run(std::span<const Wanted> run);
  Result<void> take_data(ZipMember& member, ByteSpan header);
  Result<void> take_link(ZipMember& member, ByteSpan bytes);

  std::unexpected<Error> corrupt(const ZipMember& member, std::string_view what) const {
    return fail(ErrorKind::Corrupt, fmt::format("{}: {}: {} (at byte {})", source_.name(),
                                                member.path, what, member.header));
  }

  const ByteSource& source_;
  ZipDirectory& directory_;
  std::vector<Wanted> wanted_;  ///< by place in the file
  /// The text of all symlinks that are too long to be one: kept once, however many claim to be.
  std::string_view too_long_ = directory_.keep(std::string(kMaxPath + 1, '?'));
  Bytes buffer_;
};

/// Gives every member its room, checks what the directory says of it, and notes what is to be read.
Result<void> Placer::measure(std::uint64_t end) {
  std::vector<ZipMember*> members;
  members.reserve(directory_.members.size());
  for (ZipMember& member : directory_.members) members.push_back(&member);
  std::ranges::sort(members, {}, [](const ZipMember* member) { return member->header; });
  for (std::size_t i = 0; i < members.size(); ++i) {
    ZipMember& member = *members[i];
    member.room = (i + 1 < members.size() ? members[i + 1]->header : end) - member.header;
    if (!member.is_regular() && !member.is_symlink()) continue;
    SHARDFS_CHECK(check(member));
    want(member);
    // Behind the last one may stand what is none of it, such as an APK's signature.
    member.room = std::min(member.room, kMostBesides + member.packed);
  }
  return {};
}

/// Each member has its bytes for itself: so an archive cannot claim more than a constant times its
/// own size, for the methods of which the best ratio is known.
Result<void> Placer::check(const ZipMember& member) const {
  constexpr std::uint64_t kBestDeflate = 1032;
  if (member.size == 0 && member.packed == 0) return {};
  if (member.room < kLocalSize || member.room - kLocalSize < member.packed)
    return corrupt(member, "overlaps what follows it: a damaged zip archive");
  const bool stored = member.method == zip_method::kStored;
  const bool deflate = member.method == zip_method::kDeflate;
  if ((stored && member.size != member.packed) ||
      (deflate && member.size > kBestDeflate * member.packed + 64 * 1024))
    return corrupt(member,
                   fmt::format("said to be {} bytes, of {} packed ones: a damaged zip archive",
                               member.size, member.packed));
  return {};
}

/// Finds out what the directory tells already, and notes what else is to be read of the member.
void Placer::want(ZipMember& member) {
  if (member.is_symlink()) {
    if (member.size == 0) return;
    if (member.size <= kMaxPath && member.packed <= kMostPackedLink)
      wanted_.push_back({&member, std::min(member.room, kMostBesides + member.packed)});
    else
      member.link = too_long_;
    return;
  }
  if (member.method != zip_method::kStored || member.size < kReadInPlace) return;
  // The extra fields of the local header are not those of the directory. Where there is no room for
  // any, the header need not be read: many archives of Python and 7-Zip are like that.
  const std::uint64_t before = kLocalSize + member.name_size;
  if (member.room == before + member.size)
    member.data = member.header + before;
  else
    wanted_.push_back({&member, kLocalSize});
}

Result<void> Placer::read_all() {
  for (std::size_t first = 0; first < wanted_.size();) {
    const std::uint64_t begin = wanted_[first].member->header;
    std::uint64_t end = begin + wanted_[first].size;
    std::size_t last = first + 1;
    for (; last < wanted_.size(); ++last) {
      const std::uint64_t next = wanted_[last].member->header;
      const std::uint64_t next_end = next + wanted_[last].size;
      if (next - end > kGap || next_end - begin > kStoreRequest) break;
      end = next_end;
    }
    buffer_.resize(end - begin);
    SHARDFS_CHECK(source_.read_at(begin, buffer_));
    SHARDFS_CHECK(read_run(std::span(wanted_).subspan(first, last - first)));
    first = last;
  }
  return {};
}

/// Takes what is in the buffer, which begins with the first one.
Result<void> Placer::read_run(std::span<const Wanted> run) {
  const std::uint64_t begin = run.front().member->header;
  for (const Wanted& wanted : run) {
    const ByteSpan bytes = ByteSpan(buffer_).subspan(wanted.member->header - begin, wanted.size);
    SHARDFS_CHECK(wanted.member->is_symlink() ? take_link(*wanted.member, bytes)
                                              : take_data(*wanted.member, bytes));
  }
  return {};
}

Result<void> Placer::take_data(ZipMember& member, ByteSpan header) {
  const std::uint64_t before =
      kLocalSize + load<std::uint16_t>(&header[26]) + load<std::uint16_t>(&header[28]);
  if (load<std::uint32_t>(header.data()) != kLocalMagic || member.room < before + member.size)
    return corrupt(member, "its local header is wrong: a damaged zip archive");
  member.data = member.header + before;
  return {};
}

Result<void> Placer::take_link(ZipMember& member, ByteSpan bytes) {
  std::string text(member.size, '\0');
  const auto size = decode_block({Codec::Zip}, bytes, std::as_writable_bytes(std::span(text)));
  if (!size)
    return fail(size.error().kind,
                fmt::format("{}: {}: {}", source_.name(), member.path, size.error().message));
  if (*size != text.size())
    return corrupt(member, "shorter than it should be: a damaged zip archive");
  member.link = directory_.keep(text);
  return {};
}

}  // namespace

Result<void> place_zip_members(const ByteSource& source, const DirectoryPlace& place,
                               ZipDirectory& directory) {
  Placer placer(source, directory);
  SHARDFS_CHECK(placer.measure(place.begin));
  return placer.read_all();
}

}  // namespace shardfs
