// Checks every byte of a `.tar` shard (FORMAT.md, section 6).
#include <algorithm>

#include "fs/archive/shard/pieces.h"
#include "fs/archive/shard/tar_archive.h"
#include "fs/archive/shard/ustar.h"
#include "fs/archive/shard/verify.h"
#include "fs/archive/shard/writer_base.h"
#include "fs/base/checksum.h"

namespace shardfs {

/// The tar stream is gone through in windows. A window's thread checks the pieces that begin in it
/// and gives its headers to the digest.
class TarVerifier {
 public:
  TarVerifier(const TarArchive& archive, ByteSpan checksums, DataMap map, Findings& findings)
      : archive_(archive),
        checksums_(checksums),
        map_(std::move(map)),
        runs_(archive.trailer_.size, archive.trailer_.runs),
        findings_(findings) {
    number_dropped_pieces();
  }

  [[nodiscard]] Result<void> run(unsigned threads);

 private:
  static constexpr std::uint64_t kWindow = 8 * 1024 * 1024;

  [[nodiscard]] const ByteSource& source() const { return archive_.source(); }
  void number_dropped_pieces();
  [[nodiscard]] Result<void> check_window(std::uint64_t window);
  void check_pieces(const DataMap::Range& range, std::uint64_t begin, std::uint64_t end,
                    ByteSpan bytes);
  [[nodiscard]] bool piece_holds(std::uint64_t number, ByteSpan bytes) const;
  [[nodiscard]] Result<void> check_chunk(std::uint64_t chunk);
  [[nodiscard]] Result<void> check_end();

  const TarArchive& archive_;
  const ByteSpan checksums_;
  const DataMap map_;
  const IndexRuns runs_;
  Findings& findings_;
  OrderedDigest digest_;
  std::vector<std::uint64_t> dropped_pieces_;  ///< first piece of each row of DROPPED
};

void TarVerifier::number_dropped_pieces() {
  const auto last = static_cast<Entry>(archive_.tree().entries() - 1);
  std::uint64_t piece = archive_.first_piece(last) + pieces_of(archive_.tree().file_size(last));
  const ByteSpan rows = archive_.index().section(Section::Dropped);
  for (std::size_t at = 0; at + 16 <= rows.size(); at += 16) {
    dropped_pieces_.push_back(piece);
    piece += pieces_of(load<std::uint64_t>(rows.data() + at + 8));
  }
}

bool TarVerifier::piece_holds(std::uint64_t number, ByteSpan bytes) const {
  return number < checksums_.size() / sizeof(std::uint64_t) &&
         checksum64(bytes) ==
             load<std::uint64_t>(checksums_.data() + number * sizeof(std::uint64_t));
}

/// Checks the pieces of `range` that begin in [begin, end); `bytes` begin at `begin`.
void TarVerifier::check_pieces(const DataMap::Range& range, std::uint64_t begin, std::uint64_t end,
                               ByteSpan bytes) {
  if (range.kind == DataMap::Kind::Index) return;
  const bool file = range.kind == DataMap::Kind::File;
  const std::uint64_t first =
      file ? archive_.first_piece(range.number) : dropped_pieces_[range.number];
  std::uint64_t piece = begin > range.position ? pieces_of(begin - range.position) : 0;
  for (std::uint64_t at = range.position + piece * kPieceBytes; at < std::min(end, range.end());
       at += kPieceBytes, ++piece) {
    const std::uint64_t size = std::min(kPieceBytes, range.end() - at);
    if (piece_holds(first + piece, bytes.subspan(at - begin, size))) continue;
    findings_.bad(file ? archive_.path_of(range.number) : "replaced member", piece, at);
  }
}

Result<void> TarVerifier::check_window(std::uint64_t window) {
  const std::uint64_t limit = archive_.trailer_.end;
  const std::uint64_t begin = window * kWindow;
  const std::uint64_t end = std::min(begin + kWindow, limit);
  Bytes bytes(std::min(end + kPieceBytes, limit) - begin);
  SHARDFS_CHECK(source().read_at(begin, bytes));
  for (std::size_t i = map_.first_behind(begin); i < map_.size(); ++i) {
    const DataMap::Range range = map_[i];
    if (range.position >= end) break;
    check_pieces(range, begin, end, bytes);
  }
  const auto headers = headers_in(map_, begin, ByteSpan(bytes).first(end - begin));
  std::uint64_t checked = end - begin;
  for (std::size_t i = map_.first_behind(begin); i < map_.size() && map_[i].position < end; ++i)
    if (map_[i].kind == DataMap::Kind::Index)
      checked -= std::min(map_[i].end(), end) - std::max(map_[i].position, begin);
  digest_.add(window, headers);
  return findings_.checked(checked);
}

/// An index header as a writer of this index writes it.
Result<void> TarVerifier::check_chunk(std::uint64_t chunk) {
  const Bytes plain = archive_.index_bytes(chunk * kIndexChunkBytes, runs_.chunk_size(chunk));
  return compare(source(), runs_.header(chunk).position, encode_index_header(plain), "index",
                 findings_);
}

Result<void> TarVerifier::check_end() {
  const Trailer& trailer = archive_.trailer_;
  SHARDFS_CHECK(compare(source(), trailer.self, encode_global_header(trailer.encode()), "trailer",
                        findings_));
  const std::uint64_t zeros = source().size() - trailer.end;
  if (zeros != closing_zeros(trailer.end)) findings_.bad("closing zeros", 0, trailer.end);
  return compare(source(), trailer.end, Bytes(zeros), "closing zeros", findings_);
}

Result<void> TarVerifier::run(unsigned threads) {
  const std::uint64_t windows = (archive_.trailer_.end + kWindow - 1) / kWindow;
  const auto task = [&](std::uint64_t i) -> Result<void> {
    return i < windows ? check_window(i) : check_chunk(i - windows);
  };
  SHARDFS_CHECK(run_tasks(source().name(), windows + runs_.chunks(), threads, task,
                          [this] { digest_.abandon(); }));
  if (digest_.value() != archive_.superblock().header_digest) findings_.bad("headers", 0, 0);
  return check_end();
}

Result<VerifyReport> TarArchive::verify(unsigned threads,
                                        const std::function<bool(std::uint64_t)>& progress) const {
  Findings findings(progress);
  const auto sums = checksums();
  if (!sums) {
    if (sums.error().kind != ErrorKind::Corrupt) return std::unexpected(sums.error());
    findings.bad("index", 0, superblock().index_position);
    return findings.report();
  }
  std::vector<DataMap::Range> headers;
  const IndexRuns runs(trailer_.size, trailer_.runs);
  for (std::uint64_t r = 0; r < trailer_.runs.size(); ++r)
    headers.push_back({.position = runs.run(r).position, .size = runs.run(r).size});
  headers.push_back({.position = trailer_.self, .size = Trailer::size_with(trailer_.runs.size())});
  auto map = DataMap::make(tree(), index(), headers, trailer_.end);
  if (!map) {
    findings.bad("index", 0, superblock().index_position);
    return findings.report();
  }
  check_entries(index(), tree(), findings);
  SHARDFS_CHECK(TarVerifier(*this, *sums, *std::move(map), findings).run(threads));
  return findings.report();
}

}  // namespace shardfs
