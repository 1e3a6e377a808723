#include "tools/mkshard/archive_source.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <exception>
#include <optional>
#include <string_view>
#include <thread>
#include <unordered_set>
#include <utility>

#include <archive.h>
#include <archive_entry.h>
#include <fmt/format.h>

#include "fs/archive/libarchive/member.h"
#include "tools/mkshard/archive_input.h"
#include "tools/mkshard/exclude.h"
#include "tools/mkshard/ordered_pool.h"
#include "tools/mkshard/shard_facts.h"

namespace shardfs {
namespace {

// Members a job, and bytes of data a job: handing jobs over must cost little.
constexpr std::size_t kBatchMembers = 64;
constexpr std::uint64_t kBatchBytes = 512 * 1024;
// An entry of a zip from a pipe may not tell its size in advance.
constexpr std::uint64_t kMostUnsized = 64 * 1024 * 1024;
constexpr std::uint64_t kTarBlock = 512;

/// Formats that have a directory at the end or names in UTF-16: they want to seek and a UTF-8
/// locale.
bool wants_seek(const ArchiveFile& file) {
  using namespace std::string_view_literals;
  static constexpr std::array kMagics{"7z\xBC\xAF\x27\x1C"sv, "Rar!\x1A\x07"sv, "MSCF"sv,
                                      "PK\x03\x04"sv,         "PK\x05\x06"sv,   "xar!"sv};
  if (!file.is_seekable()) return false;
  const std::string head = file.peek(0, 8);
  if (std::ranges::any_of(kMagics, [&](auto magic) { return head.starts_with(magic); }))
    return true;
  return file.peek(32769, 5) == "CD001" || head.find("-l") == 2;
}

/// The data of one entry in sequence, holes filled with zeros.
class EntryData {
 public:
  /// `holes`: where there need not be data.
  EntryData(struct archive* a, std::vector<Hole> holes) : archive_(a), holes_(std::move(holes)) {}

  /// Fills `out`, which is zero, with the bytes that follow those read before.
  [[nodiscard]] bool fill(Bytes& out) {
    const std::uint64_t start = position_, end = start + out.size();
    while (next_block()) {
      if (block_offset_ < position_) return broken("its data overlap");
      if (block_offset_ >= end) break;
      if (!is_hole(position_, block_offset_)) return broken("a part of its data is missing");
      const std::uint64_t count = std::min<std::uint64_t>(block_.size(), end - block_offset_);
      std::memcpy(out.data() + (block_offset_ - start), block_.data(), count);
      block_ = block_.subspan(count);
      block_offset_ += count;
      position_ = block_offset_;
    }
    if (!problem_ && !is_hole(position_, end)) return broken("its data end too early");
    position_ = end;
    return !problem_;
  }

  /// Appends all that is left to `out`; false if that makes it longer than `most`.
  [[nodiscard]] bool read_rest(Bytes& out, std::uint64_t most) {
    while (next_block()) {
      if (block_offset_ < out.size() || block_offset_ + block_.size() > most) return false;
      out.resize(block_offset_);
      out.insert(out.end(), block_.begin(), block_.end());
      block_ = {};
    }
    return true;
  }

  /// Whether everything has been read.
  [[nodiscard]] bool finished() {
    if (next_block()) return broken("it has more data than its size says");
    return !problem_;
  }

  /// After a failure: what it is, and whether the rest of the archive can be read all the same.
  [[nodiscard]] const std::string& problem() const { return *problem_; }
  [[nodiscard]] bool can_go_on() const { return can_go_on_; }

 private:
  bool broken(std::string problem) {
    problem_ = std::move(problem);
    ended_ = true;
    return false;
  }

  /// Whether [begin, end) lies within the holes.
  [[nodiscard]] bool is_hole(std::uint64_t begin, std::uint64_t end) const {
    for (const Hole& hole : holes_) {
      if (begin >= hole.offset) begin = std::max(begin, hole.offset + hole.length);
    }
    return begin >= end;
  }

  /// Makes sure that there is a block that is not empty; false at the end.
  bool next_block() {
    while (block_.empty() && !ended_) {
      const void* bytes = nullptr;
      std::size_t size = 0;
      la_int64_t offset = 0;
      const int result = ::archive_read_data_block(archive_, &bytes, &size, &offset);
      ended_ = result != ARCHIVE_OK;
      if (result == ARCHIVE_EOF || result == ARCHIVE_OK) {
        if (ended_) break;
      } else {
        // A wrong checksum is no more than a warning to libarchive.
        can_go_on_ = result > ARCHIVE_FATAL;
        return broken(archive_message(archive_));
      }
      block_ = {static_cast<const std::byte*>(bytes), size};
      block_offset_ = static_cast<std::uint64_t>(offset);
    }
    return !block_.empty();
  }

  struct archive* archive_;
  ByteSpan block_;
  std::uint64_t block_offset_ = 0;
  std::uint64_t position_ = 0;
  const std::vector<Hole> holes_;
  bool ended_ = false;
  std::optional<std::string> problem_;
  bool can_go_on_ = true;
};

using Items = Result<std::vector<Item>>;
using ItemPool = OrderedPool<Items>;

class ArchiveSource final : public MemberSource {
 public:
  ArchiveSource(std::unique_ptr<ArchiveFile> file, ArchiveSourceOptions options)
      : options_(std::move(options)),
        excludes_(options_.excludes),
        file_(std::move(file)),
        facts_(file_->is_seekable() ? file_->path() : ""),
        pool_(options_.threads, kMaxJobs, kReadAhead),
        reader_([this] { produce(); }) {}

  ~ArchiveSource() override {
    file_->cancel();
    pool_.cancel();
    reader_.join();
  }

  Result<std::optional<Item>> next() override;
  void prepare_for(Container container) override { container_ = container; }
  double fraction() const override { return file_->fraction(); }

 private:
  void produce();
  Result<void> read_archive();
  Result<void> read_all();
  Result<bool> read_header(struct archive_entry*& entry);
  Result<void> read_entry(struct archive_entry* entry);
  Result<void> add_entry(struct archive_entry* entry, Member member);
  Result<void> add_regular(struct archive_entry* entry, Member member);
  Result<void> add_unsized(Member member);
  Result<void> add_large(Member member);
  Result<void> give_up_data(const EntryData& data, const std::string& path);
  [[nodiscard]] std::unexpected<Error> data_error(const EntryData& data,
                                                  const std::string& path) const;
  Result<void> check_cpio_link(struct archive_entry* entry, const Member& member);
  Result<void> check_end(std::uint64_t data_end);
  Result<void> finish_input();
  Result<void> tell_what_follows();
  Result<void> give_up(const std::string& path, std::string text);
  Result<void> note_difference(const std::string& path, std::string text);
  Result<void> fix_time(Member& member);
  Result<void> put(Item item, std::uint64_t bytes = 0);
  Result<void> flush();
  void prepare(std::vector<Item>& items) const;
  [[nodiscard]] std::unexpected<Error> archive_error(const std::string& path) const;

  const ArchiveSourceOptions options_;
  const Excludes excludes_;
  std::unique_ptr<ArchiveFile> file_;
  const ShardFacts facts_;
  std::atomic<std::optional<Container>> container_{};
  // The reading thread's:
  std::unique_ptr<DecodedInput> decoded_;  ///< null where libarchive reads the file itself
  ArchiveHandle archive_;
  std::vector<Item> batch_;
  std::uint64_t batch_bytes_ = 0;
  bool told_stripped_ = false;
  std::unordered_set<std::string> left_out_;      ///< that hard links may point to
  std::unordered_set<std::string> empty_linked_;  ///< cpio: empty files with several names
  // The consumer's:
  std::vector<Item> taken_;
  std::size_t in_taken_ = 0;
  ItemPool pool_;
  std::thread reader_;
};

void ArchiveSource::produce() {
  try {
    if (const auto done = read_archive(); !done) {
      pool_.submit(
          [error = done.error()](ItemPool::Claim&) -> Items { return std::unexpected(error); });
    }
    pool_.close();
  } catch (...) {
    pool_.fail(std::current_exception());
  }
}

Result<void> ArchiveSource::read_archive() {
  const bool direct = wants_seek(*file_);
  if (!direct) {
    SHARDFS_TRY(decoded_, DecodedInput::open(*file_));
  }
  const bool zip_in_stream = !direct && decoded_->head().starts_with("PK");
  const ThreadLocale locale(direct || zip_in_stream);
  if (zip_in_stream)
    SHARDFS_CHECK(
        note_difference(file_->name(),
                        "modes and symlinks stand at the end of a zip, and are not known before; "
                        "to have them, pack it from a file"));
  SHARDFS_TRY(archive_, new_archive());
  support_formats(archive_.get());
  const int result = direct ? file_->attach(archive_.get()) : decoded_->attach(archive_.get());
  if (result < ARCHIVE_WARN) {
    if (decoded_) SHARDFS_CHECK(decoded_->check_ahead());
    return archive_error("");
  }
  return read_all();
}

Result<void> ArchiveSource::read_all() {
  if (auto root = facts_.root()) SHARDFS_CHECK(put(WholeMember{*std::move(root), {}, true}));
  struct archive_entry* entry = nullptr;
  while (true) {
    // Left to archive_read_next_header(), the bytes skipped would be remembered as if they were a
    // header's.
    if (entry != nullptr) ::archive_read_data_skip(archive_.get());
    const auto data_end = static_cast<std::uint64_t>(::archive_filter_bytes(archive_.get(), 0));
    SHARDFS_TRY(const bool more, read_header(entry));
    if (!more) {
      SHARDFS_CHECK(check_end(data_end));
      return finish_input();
    }
    SHARDFS_CHECK(read_entry(entry));
  }
}

/// False at the end.
Result<bool> ArchiveSource::read_header(struct archive_entry*& entry) {
  if (decoded_) decoded_->begin_header();
  const int result = ::archive_read_next_header(archive_.get(), &entry);
  if (decoded_) decoded_->end_header();
  if (result == ARCHIVE_EOF) return false;
  if (result < ARCHIVE_WARN) return archive_error("");
  if (result == ARCHIVE_WARN) {
    const std::string text = archive_message(archive_.get());
    // Names that are not of the locale come as they are, which is what is wanted. Any other warning
    // means that something of the member was not understood.
    if (!text.contains("can't be converted")) {
      SHARDFS_CHECK(note_difference(raw_path(entry), text + "; packed as far as it is understood"));
    }
  }
  return true;
}

Result<void> ArchiveSource::read_entry(struct archive_entry* entry) {
  const std::string raw = raw_path(entry);
  bool stripped = false;
  auto path = member_path(raw.c_str(), stripped);
  if (!path) return give_up(raw, path.error().message);
  if (stripped && !std::exchange(told_stripped_, true)) {
    SHARDFS_CHECK(put(Notice{"leading '/' is left out of the names of members"}));
  }
  if (!excludes_.empty() && excludes_.match(*path)) {
    left_out_.insert(std::move(*path));
    return {};
  }
  auto member = member_of(entry, ::archive_format(archive_.get()));
  if (!member) return give_up(*path, member.error().message);
  member->path = std::move(*path);
  if (member->path.empty() && !member->is_directory())
    return give_up(raw, "a name that is no name");
  SHARDFS_CHECK(fix_time(*member));
  return add_entry(entry, std::move(*member));
}

Result<void> ArchiveSource::add_entry(struct archive_entry* entry, Member member) {
  if (member.hard_link) {
    bool stripped = false;
    auto target = member_path(::archive_entry_hardlink(entry), stripped);
    if (!target) return give_up(member.path, "a hard link to " + target.error().message);
    if (left_out_.contains(*target)) {
      return give_up(member.path, "is a hard link to " + *target + ", which is not packed");
    }
    member.link = std::move(*target);
    facts_.complete(member);
    SHARDFS_CHECK(check_cpio_link(entry, member));
    return put(WholeMember{std::move(member), {}, true});
  }
  if ((member.mode & AE_IFMT) == AE_IFSOCK) {
    return put(Notice{member.path + ": socket, not packed"});
  }
  if (member.is_regular()) return add_regular(entry, std::move(member));
  facts_.complete(member);
  return put(WholeMember{std::move(member), {}, true});
}

Result<void> ArchiveSource::add_regular(struct archive_entry* entry, Member member) {
  if (!::archive_entry_size_is_set(entry)) return add_unsized(std::move(member));
  member.size = static_cast<std::uint64_t>(::archive_entry_size(entry));
  member.holes = holes_of(entry, member.size);
  facts_.complete(member);
  const bool cpio =
      (::archive_format(archive_.get()) & ARCHIVE_FORMAT_BASE_MASK) == ARCHIVE_FORMAT_CPIO;
  if (cpio && member.size == 0 && ::archive_entry_nlink(entry) > 1) {
    empty_linked_.insert(member.path);
  }
  if (member.size > kWholeFile) return add_large(std::move(member));
  EntryData data(archive_.get(), member.holes);
  Bytes bytes(member.size);
  if (!data.fill(bytes) || !data.finished()) return give_up_data(data, member.path);
  const std::uint64_t size = member.size;
  return put(WholeMember{std::move(member), {std::move(bytes), false, {}}, false}, size);
}

Result<void> ArchiveSource::add_unsized(Member member) {
  EntryData data(archive_.get(), {});
  Bytes all;
  if (!data.read_rest(all, kMostUnsized)) {
    return give_up(member.path,
                   fmt::format("has over {} MiB, and the archive does not tell how many in "
                               "advance; try: a file instead of a pipe",
                               kMostUnsized >> 20));
  }
  if (!data.finished()) return give_up_data(data, member.path);
  member.size = all.size();
  const std::uint64_t size = all.size();
  if (size > kWholeFile) {
    SHARDFS_CHECK(put(BegunMember{std::move(member)}));
    return put(FileData{std::move(all)}, size);
  }
  return put(WholeMember{std::move(member), {std::move(all), false, {}}, false}, size);
}

Result<void> ArchiveSource::add_large(Member member) {
  const std::string path = member.path;
  const std::uint64_t size = member.size;
  EntryData data(archive_.get(), member.holes);
  SHARDFS_CHECK(put(BegunMember{std::move(member)}));
  for (std::uint64_t done = 0; done < size;) {
    const std::uint64_t count = std::min(kChunk, size - done);
    Bytes bytes(count);
    if (!data.fill(bytes)) return data_error(data, path);
    SHARDFS_CHECK(put(FileData{std::move(bytes)}, count));
    done += count;
  }
  if (!data.finished()) return data_error(data, path);
  return {};
}

/// A large member is not given up: what a tar has promised cannot be taken back.
Result<void> ArchiveSource::give_up_data(const EntryData& data, const std::string& path) {
  if (!options_.ignore_failed_read || !data.can_go_on()) return data_error(data, path);
  return give_up(path, "is damaged in the archive: " + data.problem());
}

std::unexpected<Error> ArchiveSource::data_error(const EntryData& data,
                                                 const std::string& path) const {
  if (!data.can_go_on()) return archive_error(path);
  return fail(ErrorKind::Corrupt, fmt::format("{}: cannot be read (in {}): {}; try: copy it again",
                                              file_->name(), path, data.problem()));
}

/// In cpio's "newc" the last name of an inode has the data and the first is empty.
Result<void> ArchiveSource::check_cpio_link(struct archive_entry* entry, const Member& member) {
  if (::archive_entry_size(entry) == 0 || !empty_linked_.contains(member.link)) return {};
  return fail(
      ErrorKind::Unsupported,
      fmt::format("{}: hard link with the data of {}, which came before; try: unpack the cpio "
                  "archive, then mkshard the directory",
                  member.path, member.link));
}

/// libarchive takes the end of the bytes for the end of a tar, too. A producer that died between
/// two members would go unnoticed.
Result<void> ArchiveSource::check_end(std::uint64_t data_end) {
  if ((::archive_format(archive_.get()) & ARCHIVE_FORMAT_BASE_MASK) != ARCHIVE_FORMAT_TAR)
    return {};
  const auto end = static_cast<std::uint64_t>(::archive_filter_bytes(archive_.get(), 0));
  if (end >= round_up(data_end, kTarBlock) + kTarBlock) return {};
  return note_difference(file_->name(), "ends without a tar's closing zeros and may have been cut");
}

Result<void> ArchiveSource::finish_input() {
  if (decoded_) {
    const auto end = static_cast<std::uint64_t>(::archive_filter_bytes(archive_.get(), 0));
    SHARDFS_TRY(const bool more, decoded_->drain(end));
    if (decoded_->has_garbage()) {
      SHARDFS_CHECK(note_difference(
          file_->name(), "bytes that are not gzip follow the compressed data; they are left out"));
    }
    if (more) SHARDFS_CHECK(tell_what_follows());
  }
  return flush();
}

/// Only a tar and a cpio are known to be followed by nothing: a zip's directory comes last.
Result<void> ArchiveSource::tell_what_follows() {
  const int format = ::archive_format(archive_.get()) & ARCHIVE_FORMAT_BASE_MASK;
  if (format == ARCHIVE_FORMAT_ZIP) return {};
  if (format != ARCHIVE_FORMAT_TAR && format != ARCHIVE_FORMAT_CPIO) {
    return put(Notice{file_->name() + ": what follows the end of the archive is not packed"});
  }
  if (options_.ignore_failed_read) {
    return put(Skipped{file_->name(), 0, "what follows the end of the archive is left out"});
  }
  return fail(ErrorKind::Invalid,
              file_->name() +
                  ": something follows the end of the archive, perhaps a second one; try: join "
                  "tars with tar -A or pack them one by one, or leave it out with "
                  "--ignore-failed-read");
}

Result<void> ArchiveSource::give_up(const std::string& path, std::string text) {
  bool stripped = false;
  left_out_.insert(member_path(path.c_str(), stripped).value_or(path));
  return note_difference(path, std::move(text));
}

/// Ends the pack unless such differences may be.
Result<void> ArchiveSource::note_difference(const std::string& path, std::string text) {
  if (options_.ignore_failed_read) return put(Skipped{path, 0, std::move(text)});
  return fail(ErrorKind::Invalid, path + ": " + text + "; try: --ignore-failed-read");
}

Result<void> ArchiveSource::fix_time(Member& member) {
  const bool suspect = member.mtime.seconds <= 0 && member.mtime.nanoseconds > 0;
  const int format = ::archive_format(archive_.get());
  if (!suspect || !decoded_ || format != ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE) return {};
  const auto position = ::archive_read_header_position(archive_.get());
  const auto time = decoded_->pax_mtime(static_cast<std::uint64_t>(position));
  if (!time)
    return put(Notice{member.path + ": the fraction of its time before 1970 is uncertain"});
  member.mtime = *time;
  return {};
}

Result<void> ArchiveSource::put(Item item, std::uint64_t bytes) {
  batch_.push_back(std::move(item));
  batch_bytes_ += bytes;
  if (batch_.size() < kBatchMembers && batch_bytes_ < kBatchBytes) return {};
  return flush();
}

Result<void> ArchiveSource::flush() {
  if (batch_.empty()) return {};
  const std::uint64_t bytes = std::exchange(batch_bytes_, 0);
  const bool taken = pool_.submit(
      [this, items = std::exchange(batch_, {})](ItemPool::Claim&) mutable -> Items {
        prepare(items);
        return std::move(items);
      },
      bytes);
  if (taken) return {};
  return fail(ErrorKind::Interrupted, file_->name() + ": reading was cancelled");
}

void ArchiveSource::prepare(std::vector<Item>& items) const {
  const auto container = container_.load();
  if (!container) return;
  for (Item& item : items) {
    auto* whole = std::get_if<WholeMember>(&item);
    if (whole == nullptr || whole->prepared || whole->member.size > kSmallFile) continue;
    whole->payload = Payload::prepare(std::move(whole->payload.bytes), *container);
    whole->prepared = true;
  }
}

std::unexpected<Error> ArchiveSource::archive_error(const std::string& path) const {
  if (file_->error()) return std::unexpected(*file_->error());
  if (decoded_) {
    if (auto checked = decoded_->check(); !checked) return std::unexpected(checked.error());
  }
  return archive_failure(archive_.get(), file_->name(),
                         path.empty() ? "" : fmt::format(" (in {})", path));
}

Result<std::optional<Item>> ArchiveSource::next() {
  while (in_taken_ == taken_.size()) {
    auto popped = pool_.pop();
    if (!popped) return std::nullopt;
    if (!*popped) return std::unexpected(std::move(popped->error()));
    taken_ = std::move(**popped);
    in_taken_ = 0;
  }
  return std::move(taken_[in_taken_++]);
}

}  // namespace

Result<std::unique_ptr<MemberSource>> open_archive_source(const std::string& path,
                                                          ArchiveSourceOptions options) {
  SHARDFS_TRY(auto file, ArchiveFile::open(path));
  return std::make_unique<ArchiveSource>(std::move(file), std::move(options));
}

}  // namespace shardfs
