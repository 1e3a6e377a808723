// Checks every byte of a `.tar.zst` shard (FORMAT.md, section 6).
#include <algorithm>

#include "fs/archive/shard/seek_table.h"
#include "fs/archive/shard/verify.h"
#include "fs/archive/shard/writer_base.h"
#include "fs/archive/shard/zst_archive.h"
#include "fs/base/checksum.h"

namespace shardfs {

class ZstVerifier {
 public:
  ZstVerifier(const ZstArchive& archive, ByteSpan checksums, DataMap map, Findings& findings)
      : archive_(archive),
        frames_(archive.frames_),
        checksums_(checksums),
        map_(std::move(map)),
        findings_(findings) {}

  [[nodiscard]] Result<void> run(unsigned threads);

 private:
  /// Frames of so many decoded bytes (and one more frame) are one task.
  static constexpr std::uint64_t kWindow = 8 * 1024 * 1024;

  [[nodiscard]] const ByteSource& source() const { return archive_.source(); }
  [[nodiscard]] Result<void> make_windows();
  [[nodiscard]] Result<void> check_window(std::uint64_t window);
  [[nodiscard]] Result<bool> check_frame(std::uint64_t f, ByteSpan packed, std::span<std::byte> to);
  void report_frame(std::uint64_t f, const FrameRange& frame);
  void check_closing_zeros(std::uint64_t begin, ByteSpan bytes);
  [[nodiscard]] Result<void> check_index_part(std::uint64_t part);
  [[nodiscard]] Result<void> check_seek_table();

  const ZstArchive& archive_;
  const FrameTable& frames_;
  const ByteSpan checksums_;
  const DataMap map_;
  Findings& findings_;
  OrderedDigest digest_;
  std::atomic<bool> decoded_all_{true};
  std::vector<std::uint64_t> windows_;  ///< first frame of each, and one more
};

Result<void> ZstVerifier::make_windows() {
  windows_.push_back(0);
  for (std::uint64_t f = 0; f < frames_.size(); ++f) {
    SHARDFS_TRY(const FrameRange frame, frames_.at(f));
    const std::uint64_t start = frames_.position(windows_.back());
    if (frame.position + frame.decoded_size - start >= kWindow) windows_.push_back(f + 1);
  }
  if (windows_.back() != frames_.size()) windows_.push_back(frames_.size());
  return {};
}

/// A damaged frame is a finding for each file in it.
void ZstVerifier::report_frame(std::uint64_t f, const FrameRange& frame) {
  decoded_all_ = false;
  bool any = false;
  const std::uint64_t end = frame.position + frame.decoded_size;
  for (std::size_t i = map_.first_behind(frame.position); i < map_.size(); ++i) {
    const DataMap::Range range = map_[i];
    if (range.position >= end) break;
    const bool file = range.kind == DataMap::Kind::File;
    findings_.bad(file ? archive_.path_of(range.number) : "replaced member", f, frame.offset);
    any = true;
  }
  if (!any) findings_.bad("headers", f, frame.offset);
}

Result<bool> ZstVerifier::check_frame(std::uint64_t f, ByteSpan packed, std::span<std::byte> to) {
  SHARDFS_TRY(const FrameRange frame, frames_.at(f));
  const auto expected = load<std::uint64_t>(checksums_.data() + f * sizeof(std::uint64_t));
  const bool good = checksum64(packed) == expected && decode_frame(packed, to);
  if (!good) report_frame(f, frame);
  return good;
}

void ZstVerifier::check_closing_zeros(std::uint64_t begin, ByteSpan bytes) {
  const std::uint64_t tar_size = archive_.superblock().tar_size;
  const std::uint64_t skip = std::clamp(tar_size, begin, begin + bytes.size()) - begin;
  const auto is_zero = [](std::byte b) { return b == std::byte{0}; };
  if (!std::ranges::all_of(bytes.subspan(skip), is_zero))
    findings_.bad("closing zeros", 0, frames_.offset(frames_.size()));
}

Result<void> ZstVerifier::check_window(std::uint64_t window) {
  const std::uint64_t first = windows_[window], last = windows_[window + 1];
  const std::uint64_t offset = frames_.offset(first), begin = frames_.position(first);
  Bytes packed(frames_.offset(last) - offset);
  Bytes bytes(frames_.position(last) - begin);
  SHARDFS_CHECK(source().read_at(offset, packed));
  bool good = true;
  for (std::uint64_t f = first; f < last; ++f) {
    const auto frame = ByteSpan(packed).subspan(frames_.offset(f) - offset,
                                                frames_.offset(f + 1) - frames_.offset(f));
    const auto to = std::span(bytes).subspan(frames_.position(f) - begin,
                                             frames_.position(f + 1) - frames_.position(f));
    SHARDFS_TRY(const bool held, check_frame(f, frame, to));
    good = good && held;
  }
  const std::uint64_t tar_size = archive_.superblock().tar_size;
  const std::uint64_t in_tar = std::clamp(tar_size, begin, begin + bytes.size()) - begin;
  if (good) check_closing_zeros(begin, bytes);
  digest_.add(window, headers_in(map_, begin, ByteSpan(bytes).first(in_tar)));
  return findings_.checked(packed.size());
}

Result<void> ZstVerifier::check_index_part(std::uint64_t part) {
  const std::uint64_t size = archive_.superblock().index_size;
  const std::uint64_t from = part * kWindow;
  const Bytes expected = archive_.index_bytes(from, std::min(kWindow, size - from));
  return compare(source(), archive_.superblock().index_position + kFrameHeader + from, expected,
                 "index", findings_);
}

Result<void> ZstVerifier::check_seek_table() {
  const Superblock& s = archive_.superblock();
  std::vector<std::uint64_t> offsets, positions;
  for (std::uint64_t f = 0; f <= frames_.size(); ++f) {
    offsets.push_back(frames_.offset(f));
    positions.push_back(frames_.position(f));
  }
  if (frames_.stream_size() - s.tar_size != closing_zeros(s.tar_size))
    findings_.bad("closing zeros", 0, s.index_position);
  SHARDFS_CHECK(
      compare(source(), s.index_position, index_frame_header(s.index_size), "index", findings_));
  return compare(source(), s.index_position + kFrameHeader + s.index_size,
                 encode_seek_table(offsets, positions, s.index_size), "seek table", findings_);
}

Result<void> ZstVerifier::run(unsigned threads) {
  SHARDFS_CHECK(make_windows());
  const std::uint64_t windows = windows_.size() - 1;
  const std::uint64_t parts = (archive_.superblock().index_size + kWindow - 1) / kWindow;
  const auto task = [&](std::uint64_t i) -> Result<void> {
    return i < windows ? check_window(i) : check_index_part(i - windows);
  };
  SHARDFS_CHECK(
      run_tasks(source().name(), windows + parts, threads, task, [this] { digest_.abandon(); }));
  if (decoded_all_ && digest_.value() != archive_.superblock().header_digest)
    findings_.bad("headers", 0, 0);
  return check_seek_table();
}

Result<VerifyReport> ZstArchive::verify(unsigned threads,
                                        const std::function<bool(std::uint64_t)>& progress) const {
  Findings findings(progress);
  const auto sums = checksums();
  if (!sums && sums.error().kind != ErrorKind::Corrupt) return std::unexpected(sums.error());
  auto map = DataMap::make(tree(), index(), {}, superblock().tar_size);
  if (!sums || !map) {
    findings.bad("index", 0, superblock().index_position);
    return findings.report();
  }
  check_entries(index(), tree(), findings);
  SHARDFS_CHECK(ZstVerifier(*this, *sums, *std::move(map), findings).run(threads));
  return findings.report();
}

}  // namespace shardfs
