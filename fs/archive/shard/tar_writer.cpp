// Writes NAME.tar (FORMAT.md, section 4).
#include <algorithm>
#include <numeric>

#include "fs/archive/shard/held_back.h"
#include "fs/archive/shard/index_runs.h"
#include "fs/archive/shard/pieces.h"
#include "fs/archive/shard/trailer.h"
#include "fs/archive/shard/ustar.h"
#include "fs/archive/shard/writer_base.h"

namespace shardfs {

namespace {

HeldBack make_held_back(const Member& member, std::optional<std::uint32_t> number, Bytes headers,
                        Payload payload) {
  HeldBack held;
  held.number = number;
  held.header_size = headers.size();
  held.size = payload.bytes.size();
  held.bytes = std::move(headers);
  held.bytes.insert(held.bytes.end(), payload.bytes.begin(), payload.bytes.end());
  held.bytes.resize(round_up(held.bytes.size(), kTarBlock));
  held.pieces = std::move(payload.pieces);
  held.path = member.path;
  if (member.hard_link) held.target = member.link;
  const std::size_t slash = member.path.rfind('/');
  if (slash != std::string::npos) held.directory = member.path.substr(0, slash + 1);
  return held;
}

constexpr std::size_t kMovedRow = 16;  ///< bytes of a row of MOVED

Bytes encode_rows(const std::vector<std::pair<Entry, std::uint64_t>>& rows) {
  Bytes bytes;
  for (const auto& [entry, position] : rows) {
    append(bytes, entry);
    append(bytes, std::uint32_t{0});
    append(bytes, position);
  }
  return bytes;
}

/// A file whose place is known only after the builder has made the index.
struct Moved {
  std::uint32_t number = 0;
  std::uint64_t position = 0;  ///< of its data
};

class TarWriter final : public WriterBase {
 public:
  TarWriter(const ShardOptions& options, ByteSink& sink) : WriterBase(options, sink) {}

 protected:
  Result<void> place(const Member& member, std::uint32_t number, Payload payload) override;
  Result<void> start(const Member& member, std::uint32_t number) override;
  Result<void> more(ByteSpan data) override;
  Result<void> end() override;
  Result<ShardSummary> close() override;

 private:
  Result<void> make_way(const Member& member);
  Result<void> write_now(const HeldBack& member);
  Result<void> write_moved(const HeldBack& member);
  std::vector<std::uint32_t> predict_positions();
  [[nodiscard]] HeldBack stand_in() const;
  Result<std::vector<HeldBack>> choose(std::uint64_t runs);
  Trailer lay_out(std::uint64_t index_size, const std::vector<HeldBack>& held);
  void fill_moved(IndexParts& parts, const std::vector<std::uint32_t>& numbers) const;
  Result<void> write_index(ByteSpan index, const Trailer& trailer,
                           const std::vector<HeldBack>& held);
  void digest(const HeldBack& member);

  Candidates candidates_;
  Member last_directory_;  ///< in the tar, and still a directory there; empty path: none
  std::vector<Moved> moved_;
  // The large file being written:
  std::uint32_t number_ = 0;
  std::uint64_t data_position_ = 0;
  PieceHasher hasher_;
};

/// Writes the candidates that must not come later than `member`.
Result<void> TarWriter::make_way(const Member& member) {
  candidates_.count(member);
  const bool directory = !member.hard_link && member.is_directory();
  if (directory || member.path == last_directory_.path)
    last_directory_ = directory ? member : Member();
  for (std::size_t n = candidates_.before(member); n > 0; --n)
    SHARDFS_CHECK(write_now(candidates_.pop()));
  return {};
}

Result<void> TarWriter::place(const Member& member, std::uint32_t number, Payload payload) {
  SHARDFS_CHECK(make_way(member));
  HeldBack whole =
      make_held_back(member, number, headers(member, out_.position()), std::move(payload));
  if (is_aligned(member) || !Candidates::eligible(member, whole.bytes)) return write_now(whole);
  candidates_.push(std::move(whole));
  return candidates_.over_full() ? write_now(candidates_.pop()) : Result<void>();
}

void TarWriter::digest(const HeldBack& member) {
  const ByteSpan bytes(member.bytes);
  header_digest_.update(bytes.first(member.header_size));
  header_digest_.update(bytes.subspan(member.header_size + member.size));
}

Result<void> TarWriter::write_now(const HeldBack& member) {
  if (member.size > 0)
    builder_.set_data(*member.number, out_.position() + member.header_size, member.pieces);
  digest(member);
  return out_.write(member.bytes);
}

Result<void> TarWriter::start(const Member& member, std::uint32_t number) {
  SHARDFS_CHECK(make_way(member));
  const Bytes bytes = headers(member, out_.position());
  header_digest_.update(bytes);
  number_ = number;
  data_position_ = out_.position() + bytes.size();
  return out_.write(bytes);
}

Result<void> TarWriter::more(ByteSpan data) {
  hasher_.update(data);
  return out_.write(data);
}

Result<void> TarWriter::end() {
  builder_.set_data(number_, data_position_, hasher_.finish());
  const Bytes padding(padding_of(out_.position()));
  header_digest_.update(padding);
  return out_.write(padding);
}

/// Gives the builder the candidates' checksums, and positions as if they were written here. Returns
/// the numbers of those with data.
std::vector<std::uint32_t> TarWriter::predict_positions() {
  std::vector<std::uint32_t> numbers;
  std::uint64_t position = out_.position();
  for (const HeldBack& held : candidates_.queue()) {
    if (held.size > 0) {
      builder_.set_data(*held.number, position + held.header_size, held.pieces);
      numbers.push_back(*held.number);
    }
    position += held.bytes.size();
  }
  return numbers;
}

/// A directory member that changes nothing for any tool. It has no extended attributes, which may
/// be too large for where it is to stand.
HeldBack TarWriter::stand_in() const {
  Member member = last_directory_;
  member.xattrs.clear();
  if (member.path.empty() || as_text(headers(member, 0)).contains(kTrailerMark)) {
    member = root_;
    member.xattrs.clear();
    member.path = ".";
  }
  return make_held_back(member, std::nullopt, headers(member, 0), {});
}

/// Takes one member for each run: surplus candidates are written, missing ones made up.
Result<std::vector<HeldBack>> TarWriter::choose(std::uint64_t runs) {
  while (candidates_.size() > runs) SHARDFS_CHECK(write_moved(candidates_.pop()));
  std::vector<HeldBack> held;
  while (held.size() + candidates_.size() < runs) held.push_back(stand_in());
  while (candidates_.size() > 0) held.push_back(candidates_.pop());
  return held;
}

/// Writes a member after the builder has finished.
Result<void> TarWriter::write_moved(const HeldBack& member) {
  if (member.size > 0) moved_.push_back({*member.number, out_.position() + member.header_size});
  digest(member);
  return out_.write(member.bytes);
}

/// Fills in MOVED; `numbers` in the order of parts.wanted.
void TarWriter::fill_moved(IndexParts& parts, const std::vector<std::uint32_t>& numbers) const {
  std::vector<std::pair<Entry, std::uint64_t>> rows;
  for (const Moved& moved : moved_) {
    const auto at = std::ranges::find(numbers, moved.number) - numbers.begin();
    rows.emplace_back(parts.wanted[static_cast<std::size_t>(at)], moved.position);
  }
  std::ranges::sort(rows);
  for (auto& [type, bytes] : parts.sections)
    if (type == Section::Moved) bytes = encode_rows(rows);
}

/// Decides where index headers, trailer and held-back members will stand, from here on.
Trailer TarWriter::lay_out(std::uint64_t index_size, const std::vector<HeldBack>& held) {
  Trailer trailer;
  trailer.size = index_size;
  std::uint64_t position = out_.position();
  for (std::size_t r = 0; r < held.size(); ++r) {
    trailer.runs.push_back(position);
    position += IndexRuns::run_size(index_size, r);
    if (r + 1 == held.size()) {
      trailer.self = position;
      position += Trailer::size_with(held.size());
    }
    if (held[r].size > 0) moved_.push_back({*held[r].number, position + held[r].header_size});
    position += held[r].bytes.size();
    digest(held[r]);
  }
  trailer.end = position;
  trailer.tail = checksum64(held.back().bytes);
  return trailer;
}

Result<void> TarWriter::write_index(ByteSpan index, const Trailer& trailer,
                                    const std::vector<HeldBack>& held) {
  for (std::size_t r = 0; r < held.size(); ++r) {
    for (std::uint64_t i = 0; i < kHeadersInRow && !index.empty(); ++i) {
      const ByteSpan chunk = index.first(std::min<std::size_t>(index.size(), kIndexChunkBytes));
      SHARDFS_CHECK(out_.write(encode_index_header(chunk)));
      index = index.subspan(chunk.size());
    }
    if (r + 1 == held.size()) SHARDFS_CHECK(out_.write(encode_global_header(trailer.encode())));
    SHARDFS_CHECK(out_.write(held[r].bytes));
  }
  return out_.zeros(closing_zeros(trailer.end));
}

Result<ShardSummary> TarWriter::close() {
  const std::vector<std::uint32_t> numbers = predict_positions();
  SHARDFS_TRY(IndexParts parts, builder_.finish(nullptr, numbers));
  if (!numbers.empty()) parts.insert(Section::Moved, Bytes(kMovedRow * numbers.size()));
  const std::uint64_t size = parts.index_size();
  SHARDFS_TRY(const auto held, choose(IndexRuns::count_for(size)));
  Trailer trailer = lay_out(size, held);
  fill_moved(parts, numbers);

  Superblock& superblock = parts.superblock;
  superblock.container = Container::Tar;
  superblock.archive_size = superblock.tar_size = trailer.end;
  superblock.index_position = trailer.runs.front();
  superblock.header_digest = header_digest_.value();
  const Bytes index = encode_index(superblock, parts.sections);
  parts.sections.clear();
  SHARDFS_TRY(const std::size_t superblock_size, Superblock::encoded_size(index));
  trailer.superblock = checksum64(ByteSpan(index).first(superblock_size));
  SHARDFS_CHECK(write_index(index, trailer, held));
  SHARDFS_CHECK(out_.flush());
  return summarize(superblock, out_.position());
}

}  // namespace

Result<std::unique_ptr<ShardWriter>> create_tar_writer(const ShardOptions& options,
                                                       ByteSink& sink) {
  return std::make_unique<TarWriter>(options, sink);
}

}  // namespace shardfs
