#include "fs/archive/open.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "fs/archive/compressed/kept_stream.h"
#include "fs/archive/compressed/stream.h"
#include "fs/archive/foreign/foreign_archive.h"
#include "fs/archive/foreign/layout.h"
#include "fs/archive/foreign/sidecar.h"
#include "fs/archive/libarchive/scan.h"
#include "fs/archive/shard/reader.h"
#include "fs/archive/squashfs/scan.h"
#include "fs/archive/zip/scan.h"

namespace shardfs {

namespace {

/// No position of a stream.
constexpr std::uint64_t kWholeScan = UINT64_MAX;
/// Gzip of some 60 GB is scanned in this time.
constexpr std::chrono::minutes kScanPatience{10};
/// Of which so much at a time: then it is seen whether the archive is still wanted.
constexpr std::chrono::milliseconds kTurnPatience{4000};

/// Tells how far a scan is, and ends it.
class WatchedSource final : public ByteSource {
 public:
  WatchedSource(const ByteSource& source, const ScanProgress& progress,
                const std::function<bool()>& stopped)
      : source_(source), progress_(progress), stopped_(stopped) {}

  [[nodiscard]] Result<void> read_at(std::uint64_t offset,
                                     std::span<std::byte> out) const override {
    if (stopped_ && stopped_())
      return fail(ErrorKind::Interrupted, source_.name() + ": not scanned to its end");
    auto done = source_.read_at(offset, out);
    if (done && progress_) progress_(offset + out.size(), size());
    return done;
  }
  [[nodiscard]] Result<void> reread_at(std::uint64_t offset,
                                       std::span<std::byte> out) const override {
    return source_.reread_at(offset, out);
  }
  [[nodiscard]] bool may_wait() const override { return source_.may_wait(); }
  [[nodiscard]] bool keeps_decoded() const override { return source_.keeps_decoded(); }
  [[nodiscard]] DecodedPiece find_decoded(std::uint64_t position, std::span<std::byte> out,
                                          std::chrono::milliseconds patience) const override {
    return source_.find_decoded(position, out, patience);
  }
  [[nodiscard]] std::uint64_t size() const override { return source_.size(); }
  [[nodiscard]] const std::string& name() const override { return source_.name(); }

 private:
  const ByteSource& source_;
  const ScanProgress& progress_;
  const std::function<bool()>& stopped_;
};

Result<ForeignFacts> scan(const ByteSource& source, LayoutBuilder& layout,
                          const PartialScan* parts) {
  Bytes head(std::min<std::uint64_t>(source.size(), 8));
  SHARDFS_CHECK(source.read_at(0, head));
  const std::string_view magic = as_text(head);
  if (magic.starts_with("hsqs") || magic.starts_with("sqsh")) return scan_squashfs(source, layout);
  if (magic.starts_with("PK")) return scan_zip(source, layout);
  SHARDFS_TRY(auto stream, open_stream(source, layout));
  if (stream) stream = std::make_unique<KeptStream>(std::move(stream), source, layout);
  auto facts = scan_by_libarchive(source, stream.get(), layout, parts);
  if (facts || facts.error().kind != ErrorKind::Unsupported || stream) return facts;
  // A zip may have something else in front: a program that unpacks it.
  LayoutBuilder second;
  auto zip = scan_zip(source, second);
  if (!zip) return facts;
  layout = std::move(second);
  return zip;
}

/// An index that was made for the archive as it is now; nothing if there is none.
std::optional<Index> find_index(std::span<const std::string> paths, const ArchiveState& state,
                                std::vector<std::string>& notes) {
  for (const std::string& path : paths) {
    auto index = load_index(path);
    if (index && ForeignArchive::state(*index) == state) return *std::move(index);
    if (index) {
      notes.push_back(path + ": the index of another state of the archive; it is not used");
    } else if (index.error().kind != ErrorKind::NotFound) {
      notes.push_back(index.error().message + "; it is not used");
    }
  }
  return std::nullopt;
}

/// Makes archives of what a scan has found so far.
class PartMaker {
 public:
  using Clock = std::chrono::steady_clock;

  /// All must outlive it.
  PartMaker(const std::shared_ptr<const ByteSource>& source, const ArchiveState& state,
            const PartsShown& parts)
      : source_(source), state_(state), parts_(parts) {}

  /// Null where nobody is to be shown any; nor by a second attempt, which would begin again with
  /// less than has been shown.
  [[nodiscard]] const PartialScan* scan() const {
    return parts_.show && !*parts_.any_shown ? &scan_ : nullptr;
  }

  /// A root without anything in it, which gives nothing a number.
  void show_nothing() const {
    if (auto part = make({}, {})) parts_.show(*std::move(part));
  }

 private:
  /// The time that a part takes grows with what there is: so they come at longer and longer
  /// intervals.
  static constexpr int kShareOfTime = 10;
  static constexpr std::chrono::milliseconds kLeastInterval{20};
  /// Of decoded blocks: there are many parts, and each is read for a while only.
  static constexpr std::uint64_t kCacheBytes = 16 << 20;

  [[nodiscard]] Result<std::unique_ptr<Archive>> make(LayoutBuilder layout,
                                                      const ForeignFacts& facts) const {
    auto stable = std::make_shared<StableNumbers>();
    SHARDFS_TRY(Index index, layout.finish(facts, state_, stable.get()));
    return ForeignArchive::open(source_, std::move(index), {}, kCacheBytes, stable);
  }

  void show(LayoutBuilder layout, const ForeignFacts& facts) {
    const auto begin = Clock::now();
    auto part = make(std::move(layout), facts);
    if (part) {
      *parts_.any_shown = true;
      parts_.show(*std::move(part));
    }
    const auto end = Clock::now();
    next_ = end + std::max<Clock::duration>(kShareOfTime * (end - begin), kLeastInterval);
  }

  const std::shared_ptr<const ByteSource>& source_;
  const ArchiveState& state_;
  const PartsShown& parts_;
  Clock::time_point next_ = {};
  PartialScan scan_{.stopped = [this] { return parts_.stopped && parts_.stopped(); },
                    .wanted = [this] { return parts_.wanted() && Clock::now() >= next_; },
                    .take = [this](LayoutBuilder layout,
                                   const ForeignFacts& facts) { show(std::move(layout), facts); }};
};

/// `parts` and `stable` may be null.
Result<Index> scan_all(const ByteSource& source, const ArchiveState& state, Remarks& remarks,
                       const ScanProgress& progress, const std::function<bool()>& stopped = {},
                       const PartialScan* parts = nullptr, StableNumbers* stable = nullptr) {
  LayoutBuilder layout;
  auto facts = scan(WatchedSource(source, progress, stopped), layout, parts);
  if (!facts && facts.error().message.contains("Unrecognized"))
    return fail(
        ErrorKind::Unsupported,
        fmt::format("{}: not an archive of a format that can be mounted; try: mkshard {} -o "
                    "NEW.tar, which reads more",
                    source.name(), source.name()));
  if (!facts) return std::unexpected(facts.error());
  auto index = layout.finish(*facts, state, stable);
  if (!index) return fail(index.error().kind, source.name() + ": " + index.error().message);
  if (layout.has_shard_index() && !remarks.was_shard) {
    remarks.was_shard = true;
    remarks.notes.push_back(source.name() +
                            ": was a shard, but its end is damaged, so its index is not used; try: "
                            "copy it again");
  }
  for (const std::string& why : layout.left_out())
    remarks.notes.push_back(fmt::format("{}: {}; left out", source.name(), why));
  if (layout.left_out_count() > layout.left_out().size())
    remarks.notes.push_back(
        fmt::format("{}: {} members in all are left out", source.name(), layout.left_out_count()));
  return index;
}

/// Whoever scans an archive holds the turn at a piece that stands for all of it. Who waits for
/// another's scan has nothing to show meanwhile.
DecodedPiece turn_at_scan(const ByteSource& source, std::span<std::byte> scanned,
                          const PartsShown& parts, PartMaker& maker) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + kScanPatience;
  DecodedPiece piece;
  for (bool nothing_shown = false; Clock::now() < end;) {
    piece = source.find_decoded(kWholeScan, scanned, kTurnPatience);
    if (!piece.is_awaited || (parts.stopped && parts.stopped())) break;
    if (!nothing_shown && parts.wanted && parts.wanted() && !*parts.any_shown) {
      nothing_shown = true;
      maker.show_nothing();
    }
  }
  return piece;
}

}  // namespace

Result<std::unique_ptr<Archive>> open_archive(std::shared_ptr<const ByteSource> source,
                                              const ForeignOptions& options) {
  auto shard = open_shard(source);
  const bool was_shard = !shard && shard.error().kind == ErrorKind::Unsupported;
  const bool is_none = !shard && shard.error().kind == ErrorKind::NotFound;
  if ((!was_shard && !is_none) || source->size() == 0) return shard;
  source->check_itself();
  Remarks remarks{{}, was_shard};
  if (was_shard) remarks.notes.push_back(shard.error().message);
  SHARDFS_TRY(const ArchiveState state, state_of(*source, options.mtime));
  const IndexFiles files = options.index_files ? options.index_files() : IndexFiles();
  // Not in place of a scan that has been seen: no index has its numbers.
  const bool any_shown = *options.parts.any_shown;
  auto kept = any_shown ? std::nullopt : find_index(files.read, state, remarks.notes);
  if (kept)
    return ForeignArchive::open(std::move(source), *std::move(kept), std::move(remarks),
                                options.cache_bytes);
  std::array<std::byte, 1> scanned{};
  PartMaker parts(source, state, options.parts);
  const DecodedPiece turn = turn_at_scan(*source, scanned, options.parts, parts);
  std::vector<std::string> noted_before;
  if (turn.is_found && !any_shown)
    if (auto kept = find_index(files.read, state, noted_before))
      return ForeignArchive::open(std::move(source), *std::move(kept), std::move(remarks),
                                  options.cache_bytes);
  const auto stable = options.parts.show ? std::make_shared<StableNumbers>() : nullptr;
  SHARDFS_TRY(Index index, scan_all(*source, state, remarks, options.progress,
                                    options.parts.stopped, parts.scan(), stable.get()));
  for (const std::string& path : files.save)
    if (const auto saved = save_index(index, path); !saved)
      remarks.notes.push_back(saved.error().message);
  if (turn.turn) turn.turn->keep(scanned);
  return ForeignArchive::open(std::move(source), std::move(index), std::move(remarks),
                              options.cache_bytes, *options.parts.any_shown ? stable : nullptr);
}

Result<void> make_index(const ByteSource& source, const Time& mtime, const std::string& path,
                        const ScanProgress& progress) {
  SHARDFS_CHECK(check_replaceable_by_index(path));
  Remarks remarks;
  SHARDFS_TRY(const ArchiveState state, state_of(source, mtime));
  SHARDFS_TRY(const Index index, scan_all(source, state, remarks, progress));
  return save_index(index, path);
}

}  // namespace shardfs
