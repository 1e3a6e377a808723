#include "fs/tree/tree.h"

#include <fmt/format.h>
#include <sys/stat.h>

namespace shardfs {

namespace {

constexpr std::size_t kDirectoryRow = 12;
constexpr std::size_t kAttributesRow = 16;
constexpr std::size_t kPairRow = 8;  ///< LINK_COUNTS, XATTR_ENTRIES, HOLE_ENTRIES
constexpr std::size_t kMovedRow = 16;
constexpr std::size_t kHoleRow = 16;
constexpr Entry kNoEntry = 0xffffffff;

std::unexpected<Error> not_a_directory() { return fail(ErrorKind::Invalid, "not a directory"); }

bool is_type(std::uint32_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
    case S_IFDIR:
    case S_IFLNK:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK:
      return (mode & ~std::uint32_t{0177777}) == 0;
    default:
      return false;
  }
}

/// One attribute from the front of a set of XATTRS; none if it is not one.
std::optional<Xattr> take_xattr(ByteReader& reader) {
  const auto name_size = reader.number<std::uint16_t>();
  const auto value_size = reader.number<std::uint32_t>();
  if (!name_size || !value_size) return std::nullopt;
  const auto name = reader.take(*name_size);
  const auto value = reader.take(*value_size);
  if (!name || !value) return std::nullopt;
  const std::string_view text = as_text(*name);
  if (text.empty() || text.size() > kMaxXattrName || text.find('\0') != std::string_view::npos)
    return std::nullopt;
  return Xattr{text, *value};
}

}  // namespace

std::size_t Tree::Rows::rows_before(std::uint64_t least) const {
  std::size_t low = 0, count = size();
  while (count > 0) {
    const std::size_t half = count / 2;
    const bool below = entry(low + half) < least;
    low = below ? low + half + 1 : low;
    count = below ? count - half - 1 : half;
  }
  return low;
}

const std::byte* Tree::Rows::find(Entry wanted) const {
  if (bytes.empty()) return nullptr;
  const std::size_t i = rows_before(wanted);
  return i < size() && entry(i) == wanted ? row(i) : nullptr;
}

std::uint64_t Tree::Blobs::size() const { return offsets.empty() ? 0 : offsets.size() / 4 - 1; }

Result<ByteSpan> Tree::Blobs::at(std::uint64_t number) const {
  if (number >= size()) return damaged_index("a number leads nowhere");
  const auto begin = load<std::uint32_t>(offsets.data() + 4 * number);
  const auto end = load<std::uint32_t>(offsets.data() + 4 * number + 4);
  if (begin > end || end > bytes.size()) return damaged_index("an offset is out of place");
  return bytes.subspan(begin, end - begin);
}

Result<Tree> Tree::open(const Index& index) {
  Tree tree;
  tree.entry_count_ = index.superblock.entries;
  SHARDFS_CHECK(tree.take_columns(index));
  SHARDFS_CHECK(tree.take_tables(index));
  SHARDFS_CHECK(tree.check_attributes());
  SHARDFS_CHECK(tree.check_directories(index.superblock.directories));
  SHARDFS_CHECK(tree.check_name_blocks());
  return tree;
}

Result<void> Tree::take_columns(const Index& index) {
  const std::pair<Section, PackedColumn*> columns[] = {
      {Section::EntryAttributes, &entry_attributes_},
      {Section::Sizes, &sizes_},
      {Section::MtimeSeconds, &seconds_},
      {Section::MtimeNanoseconds, &nanoseconds_},
      {Section::Targets, &targets_},
      {Section::Positions, &positions_},
  };
  for (const auto& [section, column] : columns) {
    SHARDFS_TRY(*column, PackedColumn::open(index.section(section), entry_count_));
  }
  return {};
}

Result<void> Tree::take_tables(const Index& index) {
  directory_table_ = index.section(Section::Directories);
  if (directory_table_.size() < kDirectoryRow) return damaged_index("no directories");
  directories_ = {directory_table_.first(directory_table_.size() - kDirectoryRow), kDirectoryRow};
  name_blocks_ = {index.section(Section::NameBlocks), index.section(Section::Names)};
  links_ = {index.section(Section::LinkOffsets), index.section(Section::Links)};
  xattrs_ = {index.section(Section::XattrOffsets), index.section(Section::Xattrs)};
  attributes_ = {index.section(Section::Attributes), kAttributesRow};
  link_counts_ = {index.section(Section::LinkCounts), kPairRow};
  xattr_entries_ = {index.section(Section::XattrEntries), kPairRow};
  hole_entries_ = {index.section(Section::HoleEntries), kPairRow};
  moved_ = {index.section(Section::Moved), kMovedRow};
  holes_ = index.section(Section::Holes);
  SHARDFS_TRY(extensions_, Extensions::open(index.section(Section::Extensions)));

  for (const Rows* rows : {&attributes_, &link_counts_, &xattr_entries_, &hole_entries_, &moved_})
    if (rows->bytes.size() % rows->stride != 0) return damaged_index("a table has half a row");
  for (const Blobs* blobs : {&name_blocks_, &links_, &xattrs_})
    if (blobs->offsets.size() % 4 != 0) return damaged_index("a table has half a row");
  if (holes_.size() % kHoleRow != 0) return damaged_index("a table has half a row");
  return {};
}

Result<void> Tree::check_attributes() const {
  for (std::size_t i = 0; i < attributes_.size(); ++i) {
    const std::byte* row = attributes_.row(i);
    const bool zero = load<std::uint64_t>(row) == 0 && load<std::uint32_t>(row + 8) == 0;
    const bool good = i == 0 ? zero : is_type(load<std::uint32_t>(row));
    if (!good || load<std::uint32_t>(row + 12) != 0) return damaged_index("impossible attributes");
  }
  return {};
}

// That a directory stands in front of its children is what makes every walk up end at the root.
Result<void> Tree::check_directories(std::uint64_t directories) const {
  if (directory_table_.size() != (directories + 1) * kDirectoryRow)
    return damaged_index("wrong number of directories");
  for (std::size_t i = 0; i < directories; ++i) {
    const std::byte* row = directories_.row(i);
    const std::uint64_t entry = load<std::uint32_t>(row),
                        next_entry = load<std::uint32_t>(row + 12);
    const std::uint64_t first = load<std::uint32_t>(row + 4), end = load<std::uint32_t>(row + 16);
    const std::uint64_t block = load<std::uint32_t>(row + 8), next = load<std::uint32_t>(row + 20);
    const bool begins = i != 0 || (entry == 0 && first == 1 && block == 0);
    if (!begins || entry >= next_entry || entry >= first || first > end || end > entry_count_ ||
        next < block || next - block != (end - first + kNamesPerBlock - 1) / kNamesPerBlock)
      return damaged_index(fmt::format("directory {} is out of place", i));
    SHARDFS_TRY(const std::uint32_t mode, this->mode(static_cast<Entry>(entry)));
    if (!S_ISDIR(mode)) return damaged_index(fmt::format("directory {} is something else", i));
  }
  const std::byte* sentinel = directories_.row(directories);
  if (load<std::uint32_t>(sentinel) != kNoEntry ||
      load<std::uint32_t>(sentinel + 4) != entry_count_ ||
      load<std::uint32_t>(sentinel + 8) != name_blocks_.size())
    return damaged_index("the directories do not add up");
  return {};
}

Result<void> Tree::check_name_blocks() const {
  std::uint32_t before = 0;
  for (std::size_t at = 0; at < name_blocks_.offsets.size(); at += 4) {
    const auto offset = load<std::uint32_t>(name_blocks_.offsets.data() + at);
    if (offset < before || (at == 0 && offset != 0))
      return damaged_index("a name block is out of place");
    before = offset;
  }
  if (before != name_blocks_.bytes.size()) return damaged_index("the name blocks do not add up");
  return {};
}

std::unexpected<Error> Tree::corrupt(std::string_view what, Entry entry) {
  return fail(ErrorKind::Corrupt, fmt::format("index: {} (entry {})", what, entry));
}

Result<void> Tree::check_entry(Entry entry) const {
  if (entry >= entry_count_) return fail(ErrorKind::Invalid, fmt::format("no entry {}", entry));
  return {};
}

Tree::Directory Tree::directory_row(std::size_t number) const {
  const std::byte* row = directories_.row(number);
  const auto first = load<std::uint32_t>(row + 4);
  return {load<std::uint32_t>(row), first, load<std::uint32_t>(row + kDirectoryRow + 4) - first,
          load<std::uint32_t>(row + 8)};
}

Result<Tree::Directory> Tree::directory(Entry entry) const {
  const std::size_t number = directories_.rows_before(entry);
  if (number == directories_.size() || directories_.entry(number) != entry)
    return not_a_directory();
  return directory_row(number);
}

NameCursor Tree::name_block(std::uint32_t number) const {
  const auto block = name_blocks_.at(number);
  return NameCursor(block ? *block : ByteSpan{}, extensions_);
}

/// The only block of a directory that may hold `name`: the last one whose first name is not
/// greater.
Result<std::uint32_t> Tree::block_of(const Directory& in, std::string_view name) const {
  std::uint32_t low = 0;
  std::uint32_t high = (in.count + kNamesPerBlock - 1) / kNamesPerBlock;
  while (high - low > 1) {
    const std::uint32_t middle = low + (high - low) / 2;
    NameCursor names = name_block(in.block + middle);
    if (!names.next()) return corrupt("impossible name", in.entry);
    (names.name() <= name ? low : high) = middle;
  }
  return low;
}

Result<Entry> Tree::lookup(Entry directory, std::string_view name) const {
  SHARDFS_TRY(const Directory in, this->directory(directory));
  if (in.count == 0 || !is_valid_name(name)) return fail(ErrorKind::NotFound, "no such name");
  SHARDFS_TRY(const std::uint32_t block, block_of(in, name));
  NameCursor names = name_block(in.block + block);
  const std::uint32_t begin = block * kNamesPerBlock;
  const std::uint32_t end = std::min<std::uint32_t>(begin + kNamesPerBlock, in.count);
  for (std::uint32_t i = begin; i < end; ++i) {
    if (!names.next()) return corrupt("impossible name", in.first + i);
    if (names.name() == name) return in.first + i;
  }
  return fail(ErrorKind::NotFound, "no such name");
}

Result<Entry> Tree::find(std::string_view path) const {
  Entry at = kRoot;
  while (!path.empty()) {
    const std::size_t slash = path.find('/');
    SHARDFS_TRY(at, lookup(at, path.substr(0, slash)));
    path = slash == std::string_view::npos ? std::string_view{} : path.substr(slash + 1);
  }
  return at;
}

Result<Entry> Tree::resolve(std::string_view path) const {
  const auto leads_out = [&] {
    return fail(ErrorKind::NotFound, fmt::format("{}: leads out of the archive", path));
  };
  Entry at = kRoot;
  // Names still to be followed, the next one last.
  std::vector<std::string> names;
  const auto push = [&](std::string_view text) {
    std::vector<std::string> parts;
    while (!text.empty()) {
      const std::size_t slash = std::min(text.find('/'), text.size());
      if (slash != 0) parts.emplace_back(text.substr(0, slash));
      text.remove_prefix(std::min(slash + 1, text.size()));
    }
    names.insert(names.end(), parts.rbegin(), parts.rend());
  };
  push(path);
  int links = 0;
  while (!names.empty()) {
    const std::string name = std::move(names.back());
    names.pop_back();
    if (name == ".") continue;
    if (name == "..") {
      if (at == kRoot) return leads_out();
      at = parent(at);
      continue;
    }
    SHARDFS_TRY(const Entry next, lookup(at, name));
    SHARDFS_TRY(const Entry inode, this->inode(next));
    SHARDFS_TRY(const std::uint32_t mode, this->mode(inode));
    if (!S_ISLNK(mode)) {
      at = next;
      continue;
    }
    if (++links > kMostLinks)
      return fail(ErrorKind::Invalid, fmt::format("{}: too many symlinks", path));
    SHARDFS_TRY(const std::string_view target, link(inode));
    if (target.starts_with('/')) return leads_out();
    push(target);
  }
  return at;
}

Result<std::uint32_t> Tree::mode(Entry inode) const {
  const std::uint64_t tuple = entry_attributes_[inode];
  if (tuple >= attributes_.size()) return corrupt("attributes lead nowhere", inode);
  return load<std::uint32_t>(attributes_.row(tuple));
}

Result<Entry> Tree::inode(Entry entry) const {
  SHARDFS_CHECK(check_entry(entry));
  if (entry_attributes_[entry] != 0) return entry;
  const std::uint64_t target = targets_[entry];
  if (target >= entry_count_) return corrupt("hard link leads nowhere", entry);
  SHARDFS_TRY(const std::uint32_t mode, this->mode(static_cast<Entry>(target)));
  // Mode 0 is another hard link; a directory with two parents would be a loop.
  if (mode == 0 || S_ISDIR(mode)) return corrupt("hard link to what cannot have one", entry);
  return static_cast<Entry>(target);
}

Result<Attributes> Tree::attributes(Entry entry) const {
  SHARDFS_TRY(const Entry inode, this->inode(entry));
  const std::uint64_t tuple = entry_attributes_[inode];
  if (tuple >= attributes_.size()) return corrupt("attributes lead nowhere", inode);
  const std::byte* row = attributes_.row(tuple);
  Attributes a;
  a.inode = inode;
  a.mode = load<std::uint32_t>(row);
  a.uid = load<std::uint32_t>(row + 4);
  a.gid = load<std::uint32_t>(row + 8);
  const std::uint64_t nanoseconds = nanoseconds_[inode];
  if (nanoseconds > 999'999'999) return corrupt("impossible time", inode);
  a.mtime = {seconds_.signed_at(inode), static_cast<std::uint32_t>(nanoseconds)};
  SHARDFS_CHECK(add_links(a));
  SHARDFS_CHECK(add_size(a));
  return a;
}

Result<void> Tree::add_links(Attributes& a) const {
  if (!S_ISDIR(a.mode)) {
    const std::byte* row = link_counts_.find(a.inode);
    if (row != nullptr) a.links = load<std::uint32_t>(row + 4);
    return {};
  }
  const auto in = directory(a.inode);
  if (!in) return corrupt("a directory is not listed", a.inode);
  const std::size_t subdirectories =
      directories_.rows_before(std::uint64_t{in->first} + in->count) -
      directories_.rows_before(in->first);
  a.links = static_cast<std::uint32_t>(2 + subdirectories);
  return {};
}

Result<void> Tree::add_size(Attributes& a) const {
  if (S_ISLNK(a.mode)) {
    SHARDFS_TRY(const std::string_view text, link(a.inode));
    a.size = text.size();
  } else if (S_ISREG(a.mode)) {
    a.size = sizes_[a.inode];
    if (a.size > kMaxFile) return corrupt("impossible size", a.inode);
  } else if (S_ISCHR(a.mode) || S_ISBLK(a.mode)) {
    const std::uint64_t device = targets_[a.inode];
    a.device_major = static_cast<std::uint32_t>(device >> 32);
    a.device_minor = static_cast<std::uint32_t>(device);
  }
  a.stored = a.size;
  if (!hole_entries_.bytes.empty()) {
    SHARDFS_TRY(const auto holes, holes_of(a.inode, a.size));
    for (const Hole& hole : holes) a.stored -= hole.length;
  }
  return {};
}

Result<std::string> Tree::name(const Directory& in, Entry entry) const {
  const std::uint32_t i = entry - in.first;
  NameCursor names = name_block(in.block + i / kNamesPerBlock);
  for (std::uint32_t k = 0; k <= i % kNamesPerBlock; ++k)
    if (!names.next()) return corrupt("impossible name", entry);
  if (!is_valid_name(names.name())) return corrupt("impossible name", entry);
  return std::string(names.name());
}

Result<std::string> Tree::path(Entry entry) const {
  SHARDFS_CHECK(check_entry(entry));
  std::vector<std::string> names;
  std::size_t size = 0;
  while (entry != kRoot) {
    const Entry above = parent(entry);
    SHARDFS_TRY(const Directory in, directory(above));
    SHARDFS_TRY(names.emplace_back(), name(in, entry));
    size += names.back().size() + 1;
    if (size > kMaxPath + 1) return corrupt("path of more than 4,095 bytes", entry);
    entry = above;
  }
  std::string path;
  path.reserve(size);
  for (; !names.empty(); names.pop_back())
    path.append(path.empty() ? "" : "/").append(names.back());
  return path;
}

// The last directory that begins at or before `entry`; it is not empty, for an empty one in front
// of others begins where the next one does, and one at the end behind all entries.
Entry Tree::parent(Entry entry) const {
  if (entry == kRoot) return kRoot;
  std::size_t low = 0, count = directories_.size();
  while (count > 0) {
    const std::size_t half = count / 2;
    const bool before = load<std::uint32_t>(directories_.row(low + half) + 4) <= entry;
    low = before ? low + half + 1 : low;
    count = before ? count - half - 1 : half;
  }
  return directories_.entry(low - 1);
}

Result<std::string_view> Tree::link(Entry entry) const {
  SHARDFS_TRY(const Entry inode, this->inode(entry));
  SHARDFS_TRY(const std::uint32_t mode, this->mode(inode));
  if (!S_ISLNK(mode)) return fail(ErrorKind::Invalid, "not a symbolic link");
  const auto text = links_.at(targets_[inode]);
  if (!text) return corrupt("symbolic link leads nowhere", inode);
  if (text->size() > kMaxPath || as_text(*text).find('\0') != std::string_view::npos)
    return corrupt("impossible symbolic link", inode);
  return as_text(*text);
}

Result<std::vector<Xattr>> Tree::xattrs(Entry entry) const {
  SHARDFS_TRY(const Entry inode, this->inode(entry));
  std::vector<Xattr> found;
  const std::byte* row = xattr_entries_.find(inode);
  if (row == nullptr) return found;
  SHARDFS_TRY(const ByteSpan set, xattrs_.at(load<std::uint32_t>(row + 4)));
  for (ByteReader reader(set); !reader.rest().empty();) {
    const auto xattr = take_xattr(reader);
    if (!xattr || (!found.empty() && xattr->name <= found.back().name))
      return corrupt("impossible extended attributes", inode);
    found.push_back(*xattr);
  }
  return found;
}

Result<std::vector<Hole>> Tree::holes(Entry entry) const {
  SHARDFS_TRY(const Entry inode, this->inode(entry));
  return holes_of(inode, sizes_[inode]);
}

Result<std::vector<Hole>> Tree::holes_of(Entry inode, std::uint64_t size) const {
  std::vector<Hole> holes;
  const std::byte* row = hole_entries_.find(inode);
  if (row == nullptr || inode == kNoEntry) return holes;
  const std::byte* end = hole_entries_.bytes.data() + hole_entries_.bytes.size();
  const std::uint64_t first = load<std::uint32_t>(row + 4);
  const std::uint64_t last = row + kPairRow < end ? load<std::uint32_t>(row + kPairRow + 4) : first;
  if (first >= last || last > holes_.size() / kHoleRow) return corrupt("impossible holes", inode);
  std::uint64_t before = 0;  // end of the hole before
  for (std::uint64_t i = first; i < last; ++i) {
    const std::byte* at = holes_.data() + i * kHoleRow;
    const Hole hole{load<std::uint64_t>(at), load<std::uint64_t>(at + 8)};
    const bool apart = i == first ? true : hole.offset > before;
    if (!apart || hole.offset > size || hole.length == 0 || hole.length > size - hole.offset)
      return corrupt("impossible holes", inode);
    before = hole.offset + hole.length;
    holes.push_back(hole);
  }
  return holes;
}

Result<std::uint64_t> Tree::position(Entry entry) const {
  SHARDFS_TRY(const Entry inode, this->inode(entry));
  if (const std::byte* row = moved_.find(inode); row != nullptr)
    return load<std::uint64_t>(row + 8);
  std::uint64_t blocks = positions_[inode] ^ PackedColumn::kSignBit;
  for (std::uint64_t i = inode - inode % PackedColumn::kGroup; i < inode; ++i)
    blocks += 1 + sizes_[i] / 512 + (sizes_[i] % 512 != 0);
  return blocks * 512;
}

Result<Tree::Range> Tree::child_range(Entry directory) const {
  SHARDFS_TRY(const Directory in, this->directory(directory));
  return Range{in.first, in.count};
}

}  // namespace shardfs
