#include "tests/fuzz/streams.h"

#include <algorithm>
#include <array>
#include <vector>

#include <archive.h>
#include <archive_entry.h>
#include <bzlib.h>
#include <lz4frame.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include "fs/archive/libarchive/handle.h"

namespace shardfs {

namespace {

/// In its order, one to three pieces that may be empty.
std::vector<ByteSpan> cut(ByteSpan content, std::minstd_rand& random) {
  std::vector<ByteSpan> pieces;
  for (auto more = random() % 3; more > 0; --more) {
    const std::size_t size = random() % (content.size() + 1);
    pieces.push_back(content.first(size));
    content = content.subspan(size);
  }
  pieces.push_back(content);
  return pieces;
}

template <typename Out, typename In>
Out* as(In* bytes) {
  return reinterpret_cast<Out*>(bytes);
}

void append_gzip(Bytes& out, ByteSpan piece, std::minstd_rand& random) {
  constexpr int kGzip = 16;
  constexpr std::array<int, 4> kStrategies = {Z_DEFAULT_STRATEGY, Z_FIXED, Z_HUFFMAN_ONLY, Z_RLE};
  z_stream zlib = {};
  const int strategy = kStrategies[random() % kStrategies.size()];
  if (deflateInit2(&zlib, static_cast<int>(random() % 10), Z_DEFLATED, MAX_WBITS + kGzip, 8,
                   strategy) != Z_OK)
    return;
  Bytes packed(deflateBound(&zlib, piece.size()));
  zlib.next_in = as<Bytef>(const_cast<std::byte*>(piece.data()));
  zlib.avail_in = static_cast<uInt>(piece.size());
  zlib.next_out = as<Bytef>(packed.data());
  zlib.avail_out = static_cast<uInt>(packed.size());
  (void)deflate(&zlib, Z_FINISH);
  append(out, ByteSpan(packed).first(zlib.total_out));
  deflateEnd(&zlib);
}

void append_bzip2(Bytes& out, ByteSpan piece) {
  Bytes packed(piece.size() + piece.size() / 100 + 600);
  auto size = static_cast<unsigned>(packed.size());
  if (BZ2_bzBuffToBuffCompress(as<char>(packed.data()), &size,
                               as<char>(const_cast<std::byte*>(piece.data())),
                               static_cast<unsigned>(piece.size()), 1, 0, 0) == BZ_OK)
    append(out, ByteSpan(packed).first(size));
}

void append_zstd(Bytes& out, ByteSpan piece, std::minstd_rand& random) {
  ZSTD_CCtx* const zstd = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, 1);
  ZSTD_CCtx_setParameter(zstd, ZSTD_c_checksumFlag, static_cast<int>(random() % 2));
  ZSTD_CCtx_setParameter(zstd, ZSTD_c_contentSizeFlag, static_cast<int>(random() % 2));
  Bytes packed(ZSTD_compressBound(piece.size()));
  const std::size_t size =
      ZSTD_compress2(zstd, packed.data(), packed.size(), piece.data(), piece.size());
  ZSTD_freeCCtx(zstd);
  if (ZSTD_isError(size)) return;
  append(out, ByteSpan(packed).first(size));
  if (random() % 4 != 0) return;
  append(out, std::uint32_t{0x184D2A50});  // a frame that is skipped
  append(out, std::uint32_t{5});
  append(out, std::string_view("extra"));
}

void append_lz4(Bytes& out, ByteSpan piece, std::minstd_rand& random) {
  LZ4F_preferences_t options = LZ4F_INIT_PREFERENCES;
  options.frameInfo.blockSizeID = static_cast<LZ4F_blockSizeID_t>(LZ4F_max64KB + random() % 4);
  options.frameInfo.blockMode = random() % 2 == 0 ? LZ4F_blockLinked : LZ4F_blockIndependent;
  options.frameInfo.contentChecksumFlag =
      random() % 2 == 0 ? LZ4F_contentChecksumEnabled : LZ4F_noContentChecksum;
  options.frameInfo.blockChecksumFlag =
      random() % 2 == 0 ? LZ4F_blockChecksumEnabled : LZ4F_noBlockChecksum;
  options.frameInfo.contentSize = random() % 2 == 0 ? piece.size() : 0;
  Bytes packed(LZ4F_compressFrameBound(piece.size(), &options));
  const std::size_t size =
      LZ4F_compressFrame(packed.data(), packed.size(), piece.data(), piece.size(), &options);
  if (LZ4F_isError(size) == 0) append(out, ByteSpan(packed).first(size));
}

/// The pieces are blocks of one stream.
void append_xz(Bytes& out, const std::vector<ByteSpan>& pieces, std::minstd_rand& random) {
  constexpr std::array<lzma_check, 4> kChecks = {LZMA_CHECK_NONE, LZMA_CHECK_CRC32,
                                                 LZMA_CHECK_CRC64, LZMA_CHECK_SHA256};
  lzma_stream lzma = LZMA_STREAM_INIT;
  if (lzma_easy_encoder(&lzma, 0, kChecks[random() % kChecks.size()]) != LZMA_OK) return;
  std::size_t all = 1024;
  for (const ByteSpan piece : pieces) all += lzma_stream_buffer_bound(piece.size());
  Bytes packed(all);
  lzma.next_out = as<std::uint8_t>(packed.data());
  lzma.avail_out = packed.size();
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const lzma_action action = i + 1 == pieces.size() ? LZMA_FINISH : LZMA_FULL_FLUSH;
    lzma.next_in = as<const std::uint8_t>(pieces[i].data());
    lzma.avail_in = pieces[i].size();
    while (lzma_code(&lzma, action) == LZMA_OK) continue;
  }
  append(out, ByteSpan(packed).first(lzma.total_out));
  lzma_end(&lzma);
}

}  // namespace

Bytes decoded_stream(ByteSpan stream, std::size_t most) {
  const ArchiveHandle reader = *new_archive();
  archive_read_support_filter_gzip(reader.get());
  archive_read_support_filter_bzip2(reader.get());
  archive_read_support_filter_xz(reader.get());
  archive_read_support_filter_zstd(reader.get());
  archive_read_support_filter_lz4(reader.get());
  archive_read_support_format_raw(reader.get());
  struct archive_entry* entry = nullptr;
  if (archive_read_open_memory(reader.get(), stream.data(), stream.size()) != ARCHIVE_OK ||
      archive_read_next_header(reader.get(), &entry) != ARCHIVE_OK ||
      archive_filter_count(reader.get()) < 2)
    return {};
  Bytes content(most);
  std::size_t size = 0;
  for (la_ssize_t got = 1; got > 0 && size < most; size += static_cast<std::size_t>(got)) {
    got = archive_read_data(reader.get(), content.data() + size,
                            std::min<std::size_t>(most - size, 4096));
    if (got <= 0) break;
  }
  content.resize(size);
  return content;
}

Bytes encoded_stream(ByteSpan content, std::minstd_rand& random) {
  const auto pieces = cut(content, random);
  const auto format = random() % 5;
  Bytes out;
  if (format == 0) append_xz(out, pieces, random);
  for (const ByteSpan piece : pieces) {
    if (format == 1) append_gzip(out, piece, random);
    if (format == 2) append_bzip2(out, piece);
    if (format == 3) append_zstd(out, piece, random);
    if (format == 4) append_lz4(out, piece, random);
  }
  return out;
}

}  // namespace shardfs
