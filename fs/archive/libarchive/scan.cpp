#include "fs/archive/libarchive/scan.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <archive.h>
#include <archive_entry.h>
#include <fmt/format.h>

#include "fs/archive/foreign/block_table.h"
#include "fs/archive/libarchive/archive_bytes.h"
#include "fs/archive/libarchive/handle.h"
#include "fs/archive/libarchive/member.h"
#include "fs/archive/sevenzip/places.h"
#include "fs/tree/import.h"

namespace shardfs {

namespace {

constexpr std::uint64_t kTarBlock = 512;

constexpr std::string_view kIsoMagic = "CD001";
constexpr std::uint64_t kIsoMagicAt = 32769;

struct Format {
  int number;
  const char* name;
  /// archive_filter_bytes() tells, after a member's header, where its data begin. Where not, a
  /// member is read by its number, by a MemberReader.
  bool has_places;
};
constexpr Format kFormats[] = {
    {ARCHIVE_FORMAT_TAR, "tar", true},   {ARCHIVE_FORMAT_CPIO, "cpio", true},
    {ARCHIVE_FORMAT_AR, "ar", true},     {ARCHIVE_FORMAT_ISO9660, "iso", true},
    {ARCHIVE_FORMAT_WARC, "warc", true}, {ARCHIVE_FORMAT_7ZIP, "7z", false}};

class Scan {
 public:
  Scan(const ByteSource& source, DecodedStream* stream, LayoutBuilder& layout,
       const PartialScan* parts)
      : source_(source),
        stream_(stream),
        layout_(layout),
        parts_(parts),
        input_(source, stream, [this] { return look(); }) {}

  [[nodiscard]] Result<ForeignFacts> run();

 private:
  /// The data of a member, in the archive's (decoded) bytes.
  struct Data {
    std::uint64_t offset = 0;
    std::uint64_t size = 0;  ///< of the file
    std::vector<Hole> holes;
    bool holes_there = false;  ///< zeros, or anything, stand among the data in their place
  };
  /// The names of one inode of a cpio archive: any of them may come with the data.
  struct Inode {
    Member member;
    Data data;
    std::vector<Member> links;
  };
  struct Later {
    std::uint32_t number = 0;
    Data data;
  };

  [[nodiscard]] std::unexpected<Error> failure() const;
  [[nodiscard]] Result<bool> next(struct archive_entry*& entry);
  [[nodiscard]] Result<void> note_format();
  [[nodiscard]] Result<void> take(struct archive_entry* entry);
  [[nodiscard]] Result<void> take_numbered(struct archive_entry* entry, Member member);
  void take_placeless(const Member& member);
  std::uint64_t add_sevenzip(const SevenZipBlock& block);
  [[nodiscard]] Result<void> take_sevenzip(const Member& member);
  [[nodiscard]] Result<void> take_link(struct archive_entry* entry, Member member);
  [[nodiscard]] Result<Data> data_of(struct archive_entry* entry, const Member& member);
  void add_file(const Member& member, Data data);
  [[nodiscard]] std::uint64_t place(const Data& data, LayoutBuilder& layout) const;
  bool look() const;
  void show_part() const;
  void fix_time(Member& member) const;
  void check_end(std::uint64_t data_end);
  [[nodiscard]] Result<ForeignFacts> finish();

  const ByteSource& source_;
  DecodedStream* stream_;
  LayoutBuilder& layout_;
  const PartialScan* parts_;
  ArchiveBytes input_;
  ArchiveHandle archive_;
  std::string format_;
  std::uint64_t least_end_ = 0;  ///< where the data of the member taken last cannot end before
  std::uint64_t furthest_ = 0;   ///< behind all data of members so far, or further
  bool is_unchecked_ = false;    ///< whether that is so
  bool is_aligned_ = false;      ///< all data begin at multiples of 512
  bool has_places_ = true;
  std::optional<SevenZipPlaces> places_;                  ///< of a 7z, where its members have any
  std::map<std::uint32_t, std::uint64_t> shared_blocks_;  ///< their positions
  Access access_ = Access::Random;                        ///< to these
  std::uint64_t number_ = 0;                              ///< of members taken
  std::vector<Later> later_;  ///< files whose blocks can only be added after the stream's
  std::map<std::string, Inode> inodes_;
};

std::unexpected<Error> Scan::failure() const {
  if (auto read = input_.check(); !read) return std::unexpected(read.error());
  return archive_failure(archive_.get(), source_.name());
}

Result<ForeignFacts> Scan::run() {
  if (stream_ == nullptr && source_.size() > kIsoMagicAt + kIsoMagic.size()) {
    Bytes magic(kIsoMagic.size());
    SHARDFS_CHECK(source_.read_at(kIsoMagicAt, magic));
    if (as_text(magic) == kIsoMagic) input_.look_for_zisofs();
  }
  SHARDFS_TRY(archive_, new_archive());
  support_formats(archive_.get());
  if (input_.attach(archive_.get()) < ARCHIVE_WARN) return failure();
  struct archive_entry* entry = nullptr;
  while (true) {
    if (entry != nullptr && libarchive::archive_read_data_skip(archive_.get()) < ARCHIVE_WARN)
      return failure();
    const auto data_end =
        static_cast<std::uint64_t>(libarchive::archive_filter_bytes(archive_.get(), 0));
    const bool fits = data_end >= least_end_ && data_end - least_end_ < kTarBlock;
    if (format_ == "tar" && least_end_ != 0 && !fits)
      return fail(ErrorKind::Corrupt,
                  fmt::format("{}: {}: the list of its data does not fit its size", source_.name(),
                              raw_path(entry)));
    least_end_ = 0;
    SHARDFS_TRY(const bool more, next(entry));
    if (!more) {
      check_end(data_end);
      break;
    }
    is_unchecked_ = false;
    SHARDFS_CHECK(take(entry));
  }
  return finish();
}

Result<bool> Scan::next(struct archive_entry*& entry) {
  input_.begin_header();
  const int result = libarchive::archive_read_next_header(archive_.get(), &entry);
  input_.end_header();
  if (result < ARCHIVE_WARN || result == ARCHIVE_RETRY) return failure();
  if (format_.empty() && result != ARCHIVE_EOF) SHARDFS_CHECK(note_format());
  return result != ARCHIVE_EOF;
}

Result<void> Scan::note_format() {
  const int format = libarchive::archive_format(archive_.get()) & ARCHIVE_FORMAT_BASE_MASK;
  const auto* known = std::ranges::find(kFormats, format, &Format::number);
  if (known == std::end(kFormats) || (stream_ != nullptr && !known->has_places))
    return fail(ErrorKind::Unsupported,
                fmt::format("{}: a {} archive cannot be read in place; try: mkshard {} -o NEW.tar",
                            source_.name(), libarchive::archive_format_name(archive_.get()),
                            source_.name()));
  format_ = known->name;
  has_places_ = known->has_places;
  if (format == ARCHIVE_FORMAT_7ZIP) {
    SHARDFS_TRY(places_, find_sevenzip_places(source_));
  }
  is_aligned_ = format == ARCHIVE_FORMAT_TAR || format == ARCHIVE_FORMAT_ISO9660;
  if (is_aligned_ && stream_ == nullptr)
    layout_.add({Codec::Stored}, 0, source_.size(), source_.size());
  return {};
}

void Scan::fix_time(Member& member) const {
  const bool suspect = member.mtime.seconds <= 0 && member.mtime.nanoseconds > 0;
  if (!suspect || libarchive::archive_format(archive_.get()) != ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE)
    return;
  const auto position = libarchive::archive_read_header_position(archive_.get());
  if (const auto time = input_.pax_mtime(static_cast<std::uint64_t>(position)))
    member.mtime = *time;
}

Result<void> Scan::take(struct archive_entry* entry) {
  ++number_;
  const std::string raw = raw_path(entry);
  auto path = normalized_path(raw);
  // An ar has files only, and says nothing of it.
  if (format_ == "ar" && libarchive::archive_entry_filetype(entry) == 0)
    libarchive::archive_entry_set_filetype(entry, AE_IFREG);
  auto member = member_of(entry, libarchive::archive_format(archive_.get()));
  if (!path || !member) {
    layout_.leave_out(raw + ": " + (path ? member.error().message : path.error().message));
    return {};
  }
  member->path = *std::move(path);
  fix_time(*member);
  const bool linked = format_ == "cpio" && libarchive::archive_entry_nlink(entry) > 1;
  if (member->hard_link) return take_link(entry, *std::move(member));
  if (!member->is_regular()) {
    layout_.add_member(*member);
    return {};
  }
  if (!has_places_) return take_numbered(entry, *std::move(member));
  SHARDFS_TRY(Data data, data_of(entry, *member));
  member->size = data.size;
  member->holes = data.holes;
  least_end_ = data.offset + data.size;
  for (const Hole& hole : data.holes) least_end_ -= hole.length;
  is_unchecked_ = !data.holes.empty();
  // Solaris keeps the zeros of holes among the data.
  const auto position =
      static_cast<std::uint64_t>(libarchive::archive_read_header_position(archive_.get()));
  if (!data.holes.empty() && input_.pax_has(position, "SUN.holesdata=")) {
    data.holes_there = true;
    least_end_ = data.offset + data.size;
    // libarchive passes them by as if they were not there, but reads them.
    const void* part = nullptr;
    std::size_t part_size = 0;
    la_int64_t at = 0;
    int result = ARCHIVE_OK;
    while (result == ARCHIVE_OK)
      result = libarchive::archive_read_data_block(archive_.get(), &part, &part_size, &at);
    if (result != ARCHIVE_EOF) return failure();
  }
  if (linked) {
    Inode& inode = inodes_[member->path];
    inode = Inode{*std::move(member), std::move(data), {}};
  } else {
    add_file(*member, std::move(data));
  }
  return {};
}

/// A member of which libarchive does not tell where its data are.
Result<void> Scan::take_numbered(struct archive_entry* entry, Member member) {
  if (libarchive::archive_entry_is_encrypted(entry) != 0)
    return fail(ErrorKind::Unsupported,
                fmt::format("{}: {}: encrypted", source_.name(), member.path));
  member.size =
      static_cast<std::uint64_t>(std::max<la_int64_t>(libarchive::archive_entry_size(entry), 0));
  if (member.size == 0) {
    layout_.add_member(member);
    return {};
  }
  if (places_) return take_sevenzip(member);
  take_placeless(member);
  return {};
}

/// A member that is read by its number.
void Scan::take_placeless(const Member& member) {
  if (member.size > kMaxWhole)
    return layout_.leave_out(
        fmt::format("{}: has more than {} MiB in a solid {}; try: mkshard {} -o NEW.tar",
                    member.path, kMaxWhole >> 20, format_, source_.name()));
  layout_.begin_file();
  const std::uint64_t position = layout_.add({Codec::Member}, number_ - 1, 0, member.size);
  layout_.add_file(member, position);
}

Result<void> Scan::take_sevenzip(const Member& member) {
  const auto place =
      number_ <= places_->members.size() ? places_->members[number_ - 1] : SevenZipPlace{};
  if (place.size != member.size)
    return fail(ErrorKind::Corrupt, fmt::format("{}: {}: its header contradicts itself: a damaged "
                                                "7z archive",
                                                source_.name(), member.path));
  const SevenZipBlock& block = places_->blocks[place.block];
  if (block.coder.codec == Codec::Stored) {
    layout_.begin_file();
    const std::uint64_t position =
        layout_.add(block.coder, block.offset + place.offset, place.size, place.size);
    layout_.add_file(member, position);
    return {};
  }
  access_ = std::max(
      access_, block.is_shared || place.size >= kReadInPlace ? Access::Frame : Access::Random);
  if (!block.is_shared) {
    const std::uint64_t position = add_sevenzip(block);
    layout_.add_file(member, position);
    return {};
  }
  const auto [shared, is_new] = shared_blocks_.try_emplace(place.block);
  if (is_new) shared->second = add_sevenzip(block);
  Data data;
  data.offset = shared->second + place.offset;
  data.size = place.size;
  if (const auto number = layout_.add_member(member)) later_.push_back({*number, std::move(data)});
  return {};
}

/// Appends the block; returns its position.
std::uint64_t Scan::add_sevenzip(const SevenZipBlock& block) {
  layout_.begin_file();
  const std::uint64_t position =
      layout_.add(block.coder, block.offset, block.packed, block.decoded);
  layout_.set_start({.bits = 0, .window = {}, .checksum = BlockStart::kIsCrc | block.crc});
  return position;
}

// In a cpio any name of an inode may have the data, so they are added when all are there.
Result<void> Scan::take_link(struct archive_entry* entry, Member member) {
  auto target = normalized_path(libarchive::archive_entry_hardlink(entry));
  if (!target) {
    layout_.leave_out(member.path + ": a hard link to " + target.error().message);
    return {};
  }
  member.link = *std::move(target);
  const auto inode = inodes_.find(member.link);
  if (inode == inodes_.end()) {
    layout_.add_member(member);
    return {};
  }
  inode->second.links.push_back(member);
  if (libarchive::archive_entry_size(entry) == 0 || inode->second.data.size != 0) return {};
  SHARDFS_TRY(inode->second.data, data_of(entry, member));
  inode->second.member.size = inode->second.data.size;
  return {};
}

Result<Scan::Data> Scan::data_of(struct archive_entry* entry, const Member& member) {
  Data data;
  data.offset = static_cast<std::uint64_t>(libarchive::archive_filter_bytes(archive_.get(), 0));
  data.size = static_cast<std::uint64_t>(libarchive::archive_entry_size(entry));
  data.holes = holes_of(entry, data.size);
  std::uint64_t stored = data.size;
  for (const Hole& hole : data.holes) stored -= hole.length;
  const bool there = stream_ != nullptr ||
                     (data.offset <= source_.size() && stored <= source_.size() - data.offset);
  if (!libarchive::archive_entry_size_is_set(entry) || libarchive::archive_entry_size(entry) < 0 ||
      !there)
    return fail(ErrorKind::Corrupt, fmt::format("{}: {}: its data end behind the archive's end",
                                                source_.name(), member.path));
  furthest_ = std::max(furthest_, data.offset + data.size);
  return data;
}

/// Appends the blocks of a file that is no plain range of the stream, and says where they begin.
std::uint64_t Scan::place(const Data& data, LayoutBuilder& layout) const {
  const Codec codec = stream_ == nullptr && !places_ ? Codec::Stored : Codec::Slice;
  layout.begin_file();
  const std::uint64_t position = layout.end();
  std::uint64_t at = 0, from = data.offset;
  const auto add_data = [&](std::uint64_t end) {
    if (end > at) layout.add({codec}, from, end - at, end - at);
    from += end - at;
  };
  for (const Hole& hole : data.holes) {
    add_data(hole.offset);
    layout.add({Codec::Zero}, 0, 0, hole.length);
    at = hole.offset + hole.length;
    if (data.holes_there) from += hole.length;
  }
  add_data(data.size);
  return position;
}

void Scan::add_file(const Member& member, Data data) {
  if (data.size == 0 || (is_aligned_ && data.holes.empty()))
    return layout_.add_file(member, data.size == 0 ? 0 : data.offset);
  if (stream_ == nullptr) {
    const std::uint64_t position = place(data, layout_);
    return layout_.add_file(member, position);
  }
  if (const auto number = layout_.add_member(member)) later_.push_back({*number, std::move(data)});
}

/// False if the scan is to end.
bool Scan::look() const {
  if (parts_ == nullptr) return true;
  show_part();
  return !parts_->stopped();
}

/// If one is wanted. Files of a cpio of which more names may come are missing in it.
void Scan::show_part() const {
  const bool may_be_refused = is_unchecked_ || input_.has_zisofs();
  if (number_ == 0 || !has_places_ || may_be_refused || !parts_->wanted()) return;
  LayoutBuilder part = layout_;
  if (stream_ != nullptr) stream_->note_open(part);
  // Positions of data that have not been decoded yet are no other file's.
  if (!later_.empty()) part.skip_to(furthest_);
  for (const Later& file : later_) part.set_position(file.number, place(file.data, part));
  parts_->take(std::move(part), {stream_ == nullptr ? format_ : format_ + "." + stream_->name(),
                                 stream_ == nullptr ? Access::Random : Access::Frame});
}

/// libarchive takes the end of the bytes for the end of a tar, too.
void Scan::check_end(std::uint64_t data_end) {
  if (format_ != "tar") return;
  const auto end = static_cast<std::uint64_t>(libarchive::archive_filter_bytes(archive_.get(), 0));
  if (end < round_up(data_end, kTarBlock) + kTarBlock)
    layout_.leave_out("it ends without a tar's closing zeros and may have been cut");
}

Result<ForeignFacts> Scan::finish() {
  if (input_.has_zisofs())
    return fail(ErrorKind::Unsupported,
                fmt::format("{}: an ISO image with compressed files (zisofs) cannot be read in "
                            "place; try: mkshard {} -o NEW.tar",
                            source_.name(), source_.name()));
  SHARDFS_CHECK(input_.drain());
  for (auto& [path, inode] : inodes_) {
    add_file(inode.member, std::move(inode.data));
    for (const Member& link : inode.links) layout_.add_member(link);
  }
  for (const Later& file : later_) layout_.set_position(file.number, place(file.data, layout_));
  if (format_.empty())
    return fail(ErrorKind::Unsupported, source_.name() + ": not an archive: nothing is in it");
  if (places_) return ForeignFacts{format_, access_};
  if (!has_places_) return ForeignFacts{format_, Access::Sequential};
  if (stream_ == nullptr) return ForeignFacts{format_, Access::Random};
  return ForeignFacts{format_ + "." + stream_->name(), stream_->access()};
}

}  // namespace

Result<ForeignFacts> scan_by_libarchive(const ByteSource& source, DecodedStream* stream,
                                        LayoutBuilder& layout, const PartialScan* parts) {
  Bytes head(std::min<std::uint64_t>(source.size(), 6));
  SHARDFS_CHECK(source.read_at(0, head));
  // Its names are UTF-16, which becomes UTF-8 in such a locale only; others are left alone in "C".
  const ThreadLocale locale(stream == nullptr && as_text(head).starts_with("7z\xBC\xAF\x27\x1C"));
  return Scan(source, stream, layout, parts).run();
}

}  // namespace shardfs
