#include "fs/archive/zip/scan.h"

#include <cstdint>

#include <fmt/format.h>

#include "fs/archive/foreign/block_table.h"
#include "fs/archive/zip/directory.h"
#include "fs/archive/zip/end_record.h"
#include "fs/archive/zip/places.h"

namespace shardfs {

namespace {

/// No archive holds more: what members claim to be, taken together, is kept far from where numbers
/// end.
constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 62;

/// Into the one before, whose memory is used again.
void take(const ZipMember& from, Member& member) {
  member.path = from.path;
  member.mode = from.mode;
  member.uid = from.uid;
  member.gid = from.gid;
  member.mtime = from.mtime;
  member.size = from.is_regular() ? from.size : 0;
  member.link = from.link;
}

/// Where the member has data, its block comes first.
void add(LayoutBuilder& layout, const ZipMember& from, const Member& member) {
  if (!from.is_regular() || from.size == 0) {
    layout.add_member(member);
    return;
  }
  layout.begin_file();
  const std::uint64_t position = from.data != 0
                                     ? layout.add({Codec::Stored}, from.data, from.size, from.size)
                                     : layout.add({Codec::Zip}, from.header, from.room, from.size);
  layout.add_file(member, position);
}

}  // namespace

Result<ForeignFacts> scan_zip(const ByteSource& source, LayoutBuilder& layout) {
  SHARDFS_TRY(const DirectoryPlace place, find_zip_directory(source));
  ZipDirectory directory;
  SHARDFS_CHECK(read_zip_directory(source, place, directory));
  SHARDFS_CHECK(place_zip_members(source, place, directory));
  ForeignFacts facts{.format = "zip", .access = Access::Random};
  Member taken;
  for (const ZipMember& member : directory.members) {
    if (member.is_regular() &&
        (layout.end() > kMostBytes || member.size > kMostBytes - layout.end()))
      return fail(ErrorKind::Corrupt,
                  fmt::format("{}: {}: said to be {} bytes: a damaged zip archive", source.name(),
                              member.path, member.size));
    const bool at_once = member.data != 0 || member.size < kReadInPlace;
    if (member.is_regular() && !at_once) facts.access = Access::Frame;
    take(member, taken);
    add(layout, member, taken);
  }
  return facts;
}

}  // namespace shardfs
