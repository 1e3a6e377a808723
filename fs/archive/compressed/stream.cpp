#include "fs/archive/compressed/stream.h"

#include <algorithm>
#include <array>
#include <span>
#include <string_view>

#include "fs/archive/compressed/frame_stream.h"
#include "fs/archive/compressed/streams.h"

namespace shardfs {

namespace {

using namespace std::string_view_literals;

constexpr std::size_t kMagicSize = 10;

/// "BZh", a level, and what begins a block, or ends a stream without any.
bool is_bzip2(std::string_view text) {
  if (text.size() < 10 || !text.starts_with("BZh") || text[3] < '1' || text[3] > '9') return false;
  return text.substr(4) == "1AY&SY" || text.substr(4) == "\x17\x72\x45\x38\x50\x90";
}

/// The first bytes of the first frame that is not to be skipped, or of what is none.
Result<Bytes> first_bytes(const ByteSource& source) {
  // pzstd begins with one such frame. No known tool writes several; a file of nothing else is none
  // of ours.
  constexpr int kMostSkipped = 16;
  std::uint64_t at = 0;
  Bytes bytes;
  for (int skipped = 0; skipped <= kMostSkipped; ++skipped) {
    bytes.resize(std::min<std::uint64_t>(kMagicSize, source.size() - at));
    SHARDFS_CHECK(source.read_at(at, bytes));
    if (bytes.size() < kSkippableHeader || !is_skippable(load<std::uint32_t>(bytes.data()))) break;
    at += kSkippableHeader + load<std::uint32_t>(bytes.data() + sizeof(std::uint32_t));
    if (at > source.size()) break;
  }
  return bytes;
}

}  // namespace

StreamResult open_stream(const ByteSource& source, LayoutBuilder& layout) {
  SHARDFS_TRY(const Bytes bytes, first_bytes(source));
  const std::string_view text = as_text(bytes);
  if (text.starts_with("\x1f\x8b"sv)) return gzip_stream(source, layout);
  if (text.starts_with("\xfd"
                       "7zXZ\0"sv))
    return xz_stream(source, layout);
  if (is_bzip2(text)) return bzip2_stream(source, layout);
  if (bytes.size() < sizeof kZstdMagic) return nullptr;
  switch (load<std::uint32_t>(bytes.data())) {
    case kZstdMagic:
      return zstd_stream(source, layout);
    case kLz4Magic:
      return lz4_stream(source, layout);
    case kLz4LegacyMagic:
      return fail(ErrorKind::Unsupported,
                  source.name() + ": lz4's legacy format (lz4 -l) is not supported; repack it");
    default:
      return nullptr;
  }
}

}  // namespace shardfs
