#include "fs/tree/builder.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>

#include <fmt/format.h>
#include <sys/stat.h>

#include "fs/tree/builder_state.h"
#include "fs/tree/names.h"

namespace shardfs {

namespace {

constexpr std::uint32_t kMadeUpMode = S_IFDIR | 0755;

std::unexpected<Error> invalid(const Member& member, std::string_view what) {
  const std::string& path = member.path.empty() ? "(the root directory)" : member.path;
  return fail(ErrorKind::Invalid, fmt::format("{}: {}", path, what));
}

Result<void> check_path(const Member& member) {
  const std::string_view path = member.path;
  if (path.size() > kMaxPath) return invalid(member, "path of more than 4,095 bytes");
  if (path.empty()) return {};
  for (std::size_t at = 0; at <= path.size();) {
    const std::size_t slash = std::min(path.find('/', at), path.size());
    const std::string_view name = path.substr(at, slash - at);
    if (name.size() > kMaxName) return invalid(member, "a name of more than 255 bytes");
    if (!is_valid_name(name)) return invalid(member, "not a relative path in its plainest form");
    at = slash + 1;
  }
  return {};
}

Result<void> check_holes(const Member& member) {
  std::uint64_t before = 0;
  for (const Hole& hole : member.holes) {
    const bool apart = &hole == member.holes.data() || hole.offset > before;
    if (!apart || hole.offset > member.size || hole.length == 0 ||
        hole.length > member.size - hole.offset)
      return invalid(member, "holes that overlap or leave the file");
    before = hole.offset + hole.length;
  }
  return {};
}

Result<void> check_xattrs(const Member& member) {
  std::string_view before;
  for (const auto& [name, value] : member.xattrs) {
    if (name.empty() || name.size() > kMaxXattrName || name.find('\0') != std::string::npos ||
        name <= before || value.size() > std::numeric_limits<std::uint32_t>::max())
      return invalid(member, "an impossible extended attribute");
    before = name;
  }
  return {};
}

bool has_known_type(std::uint32_t mode) {
  constexpr std::uint32_t kTypes[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFCHR,
                                      S_IFBLK, S_IFIFO, S_IFSOCK};
  return (mode & ~std::uint32_t{0177777}) == 0 && std::ranges::count(kTypes, mode & S_IFMT) == 1;
}

Result<void> check(const Member& member) {
  SHARDFS_CHECK(check_path(member));
  if (member.link.size() > kMaxPath || member.link.find('\0') != std::string::npos)
    return invalid(member, "a link of more than 4,095 bytes or with NUL in it");
  if (member.path.empty() && (member.hard_link || !member.is_directory()))
    return invalid(member, "not a directory");
  if (member.mtime.nanoseconds > 999'999'999) return invalid(member, "an impossible time");
  if (member.hard_link) return {};
  if (!has_known_type(member.mode))
    return invalid(member, fmt::format("unknown type of file: mode {:#o}", member.mode));
  if (member.is_regular() && member.size > kMaxFile) return invalid(member, "an impossible size");
  if (member.is_regular()) SHARDFS_CHECK(check_holes(member));
  return check_xattrs(member);
}

/// A row of ATTRIBUTES.
std::array<std::byte, 16> encode_tuple(std::uint32_t mode, std::uint32_t uid, std::uint32_t gid) {
  return std::bit_cast<std::array<std::byte, 16>>(std::array<std::uint32_t, 4>{mode, uid, gid, 0});
}

Bytes encode_xattrs(const Member& member) {
  Bytes set;
  for (const auto& [name, value] : member.xattrs) {
    append(set, static_cast<std::uint16_t>(name.size()));
    append(set, static_cast<std::uint32_t>(value.size()));
    append(set, name);
    append(set, ByteSpan(value));
  }
  return set;
}

Bytes encode_holes(const Member& member) {
  Bytes rows;
  if (!member.is_regular()) return rows;
  for (const Hole& hole : member.holes) {
    append(rows, hole.offset);
    append(rows, hole.length);
  }
  return rows;
}

const char* keep(BuilderState& state, std::string_view name) {
  auto* kept = static_cast<char*>(state.names->allocate(name.size(), 1));
  std::memcpy(kept, name.data(), name.size());
  return kept;
}

void make_up(BuilderState& state, DirectoryRecord& directory, const Member& member) {
  directory.mtime = member.mtime;
  directory.tuple = state.tuples.add(encode_tuple(kMadeUpMode, member.uid, member.gid));
}

/// The directory `name` in `parent`, made up if it is not there yet with owner and time of
/// `member`.
std::uint32_t directory_at(BuilderState& state, std::uint32_t parent, std::string_view name,
                           const Member& member) {
  state.directories[parent].has_children = true;
  const std::uint32_t found = state.find_directory(parent, name);
  if (found != NumberTable::kNone) return found;
  const auto number = static_cast<std::uint32_t>(state.directories.size());
  DirectoryRecord& directory = state.directories.emplace_back();
  directory.name = keep(state, name);
  directory.name_size = static_cast<std::uint8_t>(name.size());
  directory.parent = parent;
  make_up(state, directory, member);
  state.directory_table.insert(hash_name(parent, name), number);
  return number;
}

/// The directory `path`, which may be "".
std::uint32_t directory_at(BuilderState& state, std::string_view path, const Member& member) {
  std::uint32_t at = 0;
  while (!path.empty()) {
    const std::size_t slash = std::min(path.find('/'), path.size());
    at = directory_at(state, at, path.substr(0, slash), member);
    path.remove_prefix(std::min(slash + 1, path.size()));
  }
  return at;
}

/// The directory that `member` is in. Members come directory by directory, so the last answer is
/// mostly this one too.
std::uint32_t parent_of(BuilderState& state, const Member& member) {
  const std::size_t slash = member.path.rfind('/');
  const std::string_view parent =
      std::string_view(member.path).substr(0, slash == std::string::npos ? 0 : slash);
  if (parent != state.last_parent) {
    state.last_parent_number = directory_at(state, parent, member);
    state.last_parent = parent;
  }
  return state.last_parent_number;
}

std::string_view name_of(const Member& member) {
  const std::size_t slash = member.path.rfind('/');
  return std::string_view(member.path).substr(slash == std::string::npos ? 0 : slash + 1);
}

/// Makes `number` the record of the directory `directory`, in place of an earlier one.
void take_as_directory(BuilderState& state, std::uint32_t directory, std::uint32_t number) {
  std::uint32_t& of_directory = state.directories[directory].record;
  if (of_directory != NumberTable::kNone) state.records[of_directory].replaced = true;
  of_directory = number;
  state.records[number].target = directory;
}

std::uint64_t target_of(BuilderState& state, const Member& member) {
  if (member.hard_link || member.is_symlink()) return state.links.add(as_bytes(member.link));
  if (S_ISCHR(member.mode) || S_ISBLK(member.mode))
    return std::uint64_t{member.device_major} << 32 | member.device_minor;
  return 0;
}

void fill(BuilderState& state, Record& record, const Member& member) {
  record.position = Record::kNoPosition;
  record.target = target_of(state, member);
  if (member.hard_link) return;
  if (member.is_regular()) record.size = member.size;
  record.seconds = member.mtime.seconds;
  record.nanoseconds = member.mtime.nanoseconds;
  record.tuple = state.tuples.add(encode_tuple(member.mode, member.uid, member.gid));
  record.xattrs = state.xattrs.add(encode_xattrs(member));
  record.holes = state.holes.add(encode_holes(member));
}

StableNumbers stable_numbers(const BuilderState& state, const Ordered& ordered,
                             std::size_t members) {
  StableNumbers stable;
  stable.members.assign(ordered.entry_of.begin(),
                        ordered.entry_of.begin() + static_cast<std::ptrdiff_t>(members));
  for (const DirectoryRecord& directory : state.directories) {
    stable.directories.push_back(ordered.entry_of[directory.record]);
    if (directory.record < members) stable.members[directory.record] = Ordered::kNoEntry;
  }
  return stable;
}

}  // namespace

bool Member::is_regular() const { return !hard_link && S_ISREG(mode); }
bool Member::is_directory() const { return !hard_link && S_ISDIR(mode); }
bool Member::is_symlink() const { return !hard_link && S_ISLNK(mode); }

std::uint64_t IndexParts::index_size() const {
  std::vector<std::uint64_t> lengths;
  for (const auto& [type, bytes] : sections) lengths.push_back(bytes.size());
  return index_size_for(lengths);
}

void IndexParts::insert(Section s, Bytes bytes) {
  const auto at = std::ranges::upper_bound(sections, s, {}, &std::pair<Section, Bytes>::first);
  sections.emplace(at, s, std::move(bytes));
}

struct TreeBuilder::State : BuilderState {};

TreeBuilder::TreeBuilder() : state_(std::make_unique<State>()) {}
TreeBuilder::TreeBuilder(const TreeBuilder& other)
    : state_(std::make_unique<State>(*other.state_)) {}
TreeBuilder::TreeBuilder(TreeBuilder&&) noexcept = default;
TreeBuilder& TreeBuilder::operator=(TreeBuilder&&) noexcept = default;
TreeBuilder::~TreeBuilder() = default;

Result<std::uint32_t> TreeBuilder::add(const Member& member) {
  SHARDFS_CHECK(check(member));
  if (state_->records.size() + state_->directories.size() >= kMaxEntries)
    return invalid(member, "more than 4,294,967,294 entries");
  const auto number = static_cast<std::uint32_t>(state_->records.size());
  Record& record = state_->records.emplace_back();
  fill(*state_, record, member);
  if (number == 0) make_up(*state_, state_->directories[0], member);
  if (member.path.empty()) {
    take_as_directory(*state_, 0, number);
    return number;
  }
  const std::string_view name = name_of(member);
  record.directory = parent_of(*state_, member);
  record.name_size = static_cast<std::uint8_t>(name.size());
  if (member.is_directory()) {
    const std::uint32_t directory = directory_at(*state_, record.directory, name, member);
    record.name = state_->directories[directory].name;
    take_as_directory(*state_, directory, number);
  } else {
    state_->directories[record.directory].has_children = true;
    record.name = keep(*state_, name);
  }
  return number;
}

void TreeBuilder::set_data(std::uint32_t number, std::uint64_t position,
                           std::span<const std::uint64_t> piece_checksums) {
  Record& record = state_->records[number];
  record.position = position / 512;
  record.piece = state_->pieces.size();
  state_->pieces.insert(state_->pieces.end(), piece_checksums.begin(), piece_checksums.end());
}

void TreeBuilder::leave_out_impossible(std::function<void(const std::string&)> note) {
  state_->note_left_out = std::move(note);
}

std::uint64_t TreeBuilder::size() const { return state_->records.size(); }

Result<IndexParts> TreeBuilder::finish(const Frames* frames, std::span<const std::uint32_t> wanted,
                                       StableNumbers* stable) {
  const std::unique_ptr<State> state = std::exchange(state_, std::make_unique<State>());
  const std::size_t members = state->records.size();
  SHARDFS_TRY(Ordered ordered, order_entries(*state));
  if (stable != nullptr) *stable = stable_numbers(*state, ordered, members);
  std::vector<Entry> entries;
  for (const std::uint32_t number : wanted) entries.push_back(ordered.entry_of[number]);
  SHARDFS_TRY(IndexParts parts, encode_sections(*state, std::move(ordered), frames));
  parts.wanted = std::move(entries);
  return parts;
}

void NumberTable::place(Slot slot) {
  const std::size_t mask = slots_.size() - 1;
  std::size_t i = slot.hash & mask;
  while (slots_[i].number != kNone) i = (i + 1) & mask;
  slots_[i] = slot;
}

void NumberTable::insert(std::uint64_t hash, std::uint32_t number) {
  if (++used_ * 4 > slots_.size() * 3) {
    std::vector<Slot> old(std::max<std::size_t>(16, slots_.size() * 2));
    std::swap(old, slots_);
    for (const Slot& slot : old)
      if (slot.number != kNone) place(slot);
  }
  place({static_cast<std::uint32_t>(hash), number});
}

BlobPool::BlobPool(ByteSpan first) { add(first); }

std::uint32_t BlobPool::add(ByteSpan blob) {
  const std::uint64_t hash = checksum64(blob) & 0xffffffff;
  const std::uint32_t found = table_.find(
      hash, [&](std::uint32_t number) { return std::ranges::equal((*this)[number], blob); });
  if (found != NumberTable::kNone) return found;
  const auto number = static_cast<std::uint32_t>(ends_.size());
  append(bytes_, blob);
  ends_.push_back(bytes_.size());
  table_.insert(hash, number);
  return number;
}

ByteSpan BlobPool::operator[](std::uint32_t number) const {
  const std::uint64_t begin = number == 0 ? 0 : ends_[number - 1];
  return ByteSpan(bytes_).subspan(begin, ends_[number] - begin);
}

BuilderState::BuilderState()
    : tuples(encode_tuple(0, 0, 0)), links(ByteSpan{}), xattrs(ByteSpan{}), holes(ByteSpan{}) {
  directories.emplace_back().tuple = tuples.add(encode_tuple(kMadeUpMode, 0, 0));
}

std::uint32_t BuilderState::mode(const Record& record) const {
  return load<std::uint32_t>(tuples[record.tuple].data());
}
bool BuilderState::is_directory(const Record& record) const { return S_ISDIR(mode(record)); }
bool BuilderState::is_regular(const Record& record) const { return S_ISREG(mode(record)); }
bool BuilderState::is_symlink(const Record& record) const { return S_ISLNK(mode(record)); }

std::string BuilderState::path(const Record& record) const {
  std::vector<std::string_view> names{record.text()};
  for (std::uint32_t d = record.directory; d != 0; d = directories[d].parent)
    names.push_back(directories[d].text());
  std::string path(names.back());
  for (names.pop_back(); !names.empty(); names.pop_back()) path.append("/").append(names.back());
  return path;
}

std::uint64_t hash_name(std::uint32_t parent, std::string_view name) {
  return (checksum64(as_bytes(name)) + parent * 0x9e3779b97f4a7c15) >> 32;
}

std::uint32_t BuilderState::find_directory(std::uint32_t parent, std::string_view name) const {
  return directory_table.find(hash_name(parent, name), [&](std::uint32_t number) {
    return directories[number].parent == parent && directories[number].text() == name;
  });
}

std::uint32_t BuilderState::find_directory(std::string_view path) const {
  std::uint32_t at = 0;
  while (!path.empty() && at != NumberTable::kNone) {
    const std::size_t slash = std::min(path.find('/'), path.size());
    at = find_directory(at, path.substr(0, slash));
    path.remove_prefix(std::min(slash + 1, path.size()));
  }
  return at;
}

}  // namespace shardfs
