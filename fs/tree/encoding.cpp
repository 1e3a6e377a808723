// From ordered entries to the sections of an index (FORMAT.md 3.3).
#include <algorithm>
#include <array>
#include <limits>

#include <fmt/format.h>

#include "fs/tree/builder_state.h"
#include "fs/tree/names.h"
#include "fs/tree/packed_column.h"

namespace shardfs {

namespace {

constexpr std::uint64_t kPieceSize = 65536;
constexpr std::uint64_t kMax32 = std::numeric_limits<std::uint32_t>::max();

std::uint64_t blocks_of(std::uint64_t size) { return size / 512 + (size % 512 != 0); }
std::uint64_t pieces_of(std::uint64_t size) { return size / kPieceSize + (size % kPieceSize != 0); }

std::unexpected<Error> limit(std::string_view what) {
  return fail(ErrorKind::Invalid, fmt::format("the format's limit is reached: {}", what));
}

/// Gives the blobs of a pool that are in use their final numbers, in order of first use, so that
/// the index does not depend on the order of members.
class Renumbering {
 public:
  explicit Renumbering(const BlobPool& pool) : pool_(pool), numbers_(pool.size(), kUnused) {}

  std::uint32_t operator()(std::uint32_t old) {
    if (numbers_[old] == kUnused) {
      numbers_[old] = static_cast<std::uint32_t>(offsets_.size());
      offsets_.push_back(bytes_.size());
      append(bytes_, pool_[old]);
    }
    return numbers_[old];
  }
  [[nodiscard]] Bytes take_bytes() { return std::move(bytes_); }
  /// The offsets and a sentinel, 4 bytes each.
  [[nodiscard]] Result<Bytes> take_offsets() {
    Bytes out;
    if (offsets_.empty()) return out;
    if (bytes_.size() > kMax32) return limit("4 GiB of link texts or extended attributes");
    offsets_.push_back(bytes_.size());
    for (const std::uint64_t offset : offsets_) append(out, static_cast<std::uint32_t>(offset));
    return out;
  }

 private:
  static constexpr std::uint32_t kUnused = 0xffffffff;
  const BlobPool& pool_;
  std::vector<std::uint32_t> numbers_;
  std::vector<std::uint64_t> offsets_;
  Bytes bytes_;
};

class Encoder {
 public:
  Encoder(BuilderState& state, Ordered ordered, const Frames* frames)
      : state_(state), ordered_(std::move(ordered)), frames_(frames) {}

  Result<IndexParts> encode();

 private:
  [[nodiscard]] const Record& at(std::size_t entry) const {
    return state_.records[ordered_.record_of[entry]];
  }
  /// The record of the entry's inode.
  [[nodiscard]] const Record& inode_at(std::size_t entry) const {
    const Record& record = at(entry);
    return record.is_hard_link() ? state_.records[record.target] : record;
  }
  [[nodiscard]] std::size_t entries() const { return ordered_.record_of.size(); }

  [[nodiscard]] Result<void> check_data() const;
  [[nodiscard]] Result<void> add_names();
  [[nodiscard]] Bytes pick_extensions() const;
  [[nodiscard]] std::size_t most_name_bytes() const;
  void add_attributes();
  void add_times_and_sizes();
  [[nodiscard]] Result<void> add_targets();
  void add_link_counts();
  void add_positions();
  [[nodiscard]] Result<void> add_xattrs();
  void add_holes();
  [[nodiscard]] std::vector<const Record*> dropped() const;
  void add_dropped();
  void add_frames();
  void add_pieces();
  void count();

  void add(Section section, Bytes bytes) {
    if (!bytes.empty()) parts_.insert(section, std::move(bytes));
  }
  template <typename ValueOf>
  void add_column(Section section, ValueOf&& value_of) {
    std::vector<std::uint64_t> values(entries());
    for (std::size_t e = 0; e < values.size(); ++e) values[e] = value_of(e);
    add(section, PackedColumn::encode(values));
  }

  BuilderState& state_;
  Ordered ordered_;
  const Frames* frames_;
  IndexParts parts_;
};

Result<IndexParts> Encoder::encode() {
  SHARDFS_CHECK(check_data());
  SHARDFS_CHECK(add_names());
  add_attributes();
  add_times_and_sizes();
  SHARDFS_CHECK(add_targets());
  add_link_counts();
  add_positions();
  SHARDFS_CHECK(add_xattrs());
  add_holes();
  add_dropped();
  if (frames_ != nullptr) {
    add_frames();
  } else {
    add_pieces();
  }
  count();
  return std::move(parts_);
}

// What an index without this would say of the file is wrong, so it is worth a look at each.
Result<void> Encoder::check_data() const {
  for (std::size_t e = 0; e < entries(); ++e) {
    const Record& record = at(e);
    const std::uint64_t pieces = frames_ == nullptr ? pieces_of(record.size) : 0;
    const bool told = record.size == 0 || record.position != Record::kNoPosition;
    if (!told || (pieces != 0 && record.piece + pieces > state_.pieces.size()))
      return fail(ErrorKind::Invalid, state_.path(record) + ": its data was not added");
  }
  return {};
}

Bytes Encoder::pick_extensions() const {
  ExtensionCounter counter;
  for (std::size_t e = 1; e < entries(); ++e) counter.count(at(e).text());
  return counter.pick();
}

/// More than NAMES will take. Reserved memory costs nothing until it is written to, but growing
/// copies.
std::size_t Encoder::most_name_bytes() const {
  std::size_t size = 0;
  for (std::size_t e = 1; e < entries(); ++e) size += 6 + at(e).name_size;
  return size;
}

Result<void> Encoder::add_names() {
  Bytes extension_bytes = pick_extensions();
  SHARDFS_TRY(const Extensions extensions, Extensions::open(extension_bytes));
  const NameEncoder encoder(extensions);
  Bytes directories, blocks, names;
  names.reserve(most_name_bytes());
  std::uint32_t child = 1;
  for (const std::uint32_t number : ordered_.directories) {
    append(directories, ordered_.entry_of[number]);
    append(directories, child);
    append(directories, static_cast<std::uint32_t>(blocks.size() / 4));
    const auto directory = static_cast<std::uint32_t>(state_.records[number].target);
    while (child < entries() && at(child).directory == directory) {
      std::array<std::string_view, kNamesPerBlock> of_block;
      std::size_t size = 0;
      while (size < kNamesPerBlock && child < entries() && at(child).directory == directory)
        of_block[size++] = at(child++).text();
      if (names.size() > kMax32 - kNamesPerBlock * 2 * kMaxName) return limit("4 GiB of names");
      append(blocks, static_cast<std::uint32_t>(names.size()));
      encoder.append_block(std::span(of_block).first(size), names);
    }
  }
  append(directories, static_cast<std::uint32_t>(kMax32));
  append(directories, child);
  append(directories, static_cast<std::uint32_t>(blocks.size() / 4));
  append(blocks, static_cast<std::uint32_t>(names.size()));
  add(Section::Directories, std::move(directories));
  add(Section::NameBlocks, std::move(blocks));
  add(Section::Names, std::move(names));
  add(Section::Extensions, std::move(extension_bytes));
  state_.names.reset();  // Nothing needs a name from here on.
  return {};
}

void Encoder::add_attributes() {
  Renumbering tuples(state_.tuples);
  tuples(0);
  add_column(Section::EntryAttributes, [&](std::size_t e) { return tuples(at(e).tuple); });
  add(Section::Attributes, tuples.take_bytes());
}

// A hard link repeats its inode's time, which keeps the columns narrow.
void Encoder::add_times_and_sizes() {
  add_column(Section::Sizes, [&](std::size_t e) { return at(e).size; });
  add_column(Section::MtimeSeconds, [&](std::size_t e) {
    return static_cast<std::uint64_t>(inode_at(e).seconds) ^ PackedColumn::kSignBit;
  });
  add_column(Section::MtimeNanoseconds, [&](std::size_t e) { return inode_at(e).nanoseconds; });
}

Result<void> Encoder::add_targets() {
  Renumbering texts(state_.links);
  add_column(Section::Targets, [&](std::size_t e) -> std::uint64_t {
    const Record& record = at(e);
    if (record.is_hard_link()) return ordered_.entry_of[record.target];
    if (state_.is_directory(record)) return 0;
    if (state_.is_symlink(record)) return texts(static_cast<std::uint32_t>(record.target));
    return record.target;
  });
  SHARDFS_TRY(Bytes offsets, texts.take_offsets());
  add(Section::LinkOffsets, std::move(offsets));
  add(Section::Links, texts.take_bytes());
  return {};
}

void Encoder::add_link_counts() {
  std::vector<std::uint32_t> targets;  // one for each name more than the first
  for (std::size_t e = 0; e < entries(); ++e)
    if (at(e).is_hard_link()) targets.push_back(ordered_.entry_of[at(e).target]);
  std::ranges::sort(targets);
  Bytes rows;
  for (std::size_t i = 0; i < targets.size();) {
    std::size_t end = i;
    while (end < targets.size() && targets[end] == targets[i]) ++end;
    append(rows, targets[i]);
    append(rows, static_cast<std::uint32_t>(end - i + 1));
    i = end;
  }
  add(Section::LinkCounts, std::move(rows));
}

// FORMAT.md 3.5: what stands in front in the group is subtracted, and an entry without data repeats
// the value next to it, so that files in archive order give one value.
void Encoder::add_positions() {
  std::vector<std::uint64_t> values(entries(), PackedColumn::kSignBit);
  for (std::size_t group = 0; group < entries(); group += PackedColumn::kGroup) {
    const std::size_t end = std::min(group + PackedColumn::kGroup, entries());
    std::uint64_t in_front = 0;
    std::size_t filled = group;  // entries before have their value
    for (std::size_t e = group; e < end; ++e) {
      const Record& record = at(e);
      if (record.size != 0) {
        values[e] = (record.position - in_front) ^ PackedColumn::kSignBit;
        if (filled == group) std::fill(values.begin() + group, values.begin() + e, values[e]);
        filled = e + 1;
      } else if (filled != group) {
        values[e] = values[e - 1];
      }
      in_front += 1 + blocks_of(record.size);
    }
  }
  add(Section::Positions, PackedColumn::encode(values));
}

Result<void> Encoder::add_xattrs() {
  Renumbering sets(state_.xattrs);
  Bytes rows;
  for (std::size_t e = 0; e < entries(); ++e) {
    if (at(e).xattrs == 0) continue;
    append(rows, static_cast<std::uint32_t>(e));
    append(rows, sets(at(e).xattrs));
  }
  SHARDFS_TRY(Bytes offsets, sets.take_offsets());
  add(Section::XattrEntries, std::move(rows));
  add(Section::XattrOffsets, std::move(offsets));
  add(Section::Xattrs, sets.take_bytes());
  return {};
}

void Encoder::add_holes() {
  Bytes rows, holes;
  for (std::size_t e = 0; e < entries(); ++e) {
    if (at(e).holes == 0) continue;
    append(rows, static_cast<std::uint32_t>(e));
    append(rows, static_cast<std::uint32_t>(holes.size() / 16));
    append(holes, state_.holes[at(e).holes]);
  }
  if (holes.empty()) return;
  append(rows, static_cast<std::uint32_t>(kMax32));
  append(rows, static_cast<std::uint32_t>(holes.size() / 16));
  add(Section::HoleEntries, std::move(rows));
  add(Section::Holes, std::move(holes));
}

/// Files whose data stand in the tar but in no entry, in order of their positions.
std::vector<const Record*> Encoder::dropped() const {
  std::vector<const Record*> records;
  for (const Record& record : state_.records)
    if (record.replaced && record.size != 0 && record.position != Record::kNoPosition)
      records.push_back(&record);
  std::ranges::sort(records, {}, &Record::position);
  return records;
}

void Encoder::add_dropped() {
  Bytes rows;
  for (const Record* record : dropped()) {
    append(rows, record->position * 512);
    append(rows, record->size);
  }
  add(Section::Dropped, std::move(rows));
}

void Encoder::add_frames() {
  add(Section::FrameOffsets, PackedColumn::encode(frames_->offsets));
  add(Section::FramePositions, PackedColumn::encode(frames_->positions));
  Bytes checksums;
  append(checksums, std::as_bytes(std::span(frames_->checksums)));
  add(Section::Checksums, std::move(checksums));
}

void Encoder::add_pieces() {
  Bytes bases, checksums;
  checksums.reserve(state_.pieces.size() * 8);
  const auto add_pieces_of = [&](const Record& record) {
    const auto of_file = std::span(state_.pieces).subspan(record.piece, pieces_of(record.size));
    append(checksums, std::as_bytes(of_file));
  };
  for (std::size_t e = 0; e < entries(); ++e) {
    if (e % PackedColumn::kGroup == 0) append<std::uint64_t>(bases, checksums.size() / 8);
    add_pieces_of(at(e));
  }
  for (const Record* record : dropped()) add_pieces_of(*record);
  add(Section::PieceBases, std::move(bases));
  add(Section::Checksums, std::move(checksums));
}

void Encoder::count() {
  Superblock& superblock = parts_.superblock;
  superblock.container = frames_ != nullptr ? Container::TarZst : Container::Tar;
  superblock.entries = entries();
  superblock.directories = ordered_.directories.size();
  for (std::size_t e = 0; e < entries(); ++e) {
    if (!state_.is_regular(at(e))) continue;
    ++superblock.files;
    superblock.file_bytes += at(e).size;
  }
}

}  // namespace

Result<IndexParts> encode_sections(BuilderState& state, Ordered ordered, const Frames* frames) {
  return Encoder(state, std::move(ordered), frames).encode();
}

}  // namespace shardfs
