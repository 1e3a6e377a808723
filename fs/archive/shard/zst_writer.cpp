// Writes NAME.tar.zst (FORMAT.md, section 5).
#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "fs/archive/shard/frame_compressor.h"
#include "fs/archive/shard/seek_table.h"
#include "fs/archive/shard/ustar.h"
#include "fs/archive/shard/writer_base.h"

namespace shardfs {

namespace {

constexpr std::uint64_t kMaxIndex = std::numeric_limits<std::uint32_t>::max() - kFrameHeader;
constexpr std::uint64_t kSoloFrom = 4 * 1024;  ///< smaller data never get a frame of their own

class ZstWriter final : public WriterBase {
 public:
  ZstWriter(const ShardOptions& options, ByteSink& sink)
      : WriterBase(options, sink),
        compressor_(options.level, options.threads, options.frame_size, out_) {}

 protected:
  Result<void> place(const Member& member, std::uint32_t number, Payload payload) override;
  Result<void> start(const Member& member, std::uint32_t number) override;
  Result<void> more(ByteSpan data) override;
  Result<void> end() override;
  Result<ShardSummary> close() override;

 private:
  Result<Bytes> start_member(const Member& member, std::uint32_t number);
  Result<void> reserve(std::uint64_t size);
  void collect(ByteSpan bytes);
  Result<void> close_frame();
  Result<void> write_end(ByteSpan index);

  FrameCompressor compressor_;
  Bytes frame_;               ///< being filled
  std::uint64_t stream_ = 0;  ///< bytes of tar stream so far
};

void ZstWriter::collect(ByteSpan bytes) {
  frame_.insert(frame_.end(), bytes.begin(), bytes.end());
  stream_ += bytes.size();
}

/// Closes the collection if `size` bytes more would bring it over the frame size.
Result<void> ZstWriter::reserve(std::uint64_t size) {
  return frame_.size() + size > options_.frame_size ? close_frame() : Result<void>();
}

Result<void> ZstWriter::close_frame() {
  if (frame_.empty()) return {};
  return compressor_.add(std::exchange(frame_, {}));
}

/// Encodes a member's headers and tells the builder where its data will stand.
Result<Bytes> ZstWriter::start_member(const Member& member, std::uint32_t number) {
  Bytes bytes = headers(member, stream_);
  if (bytes.size() > kMaxDecodedFrame - options_.frame_size - kTarBlock)
    return fail(ErrorKind::Unsupported,
                fmt::format("{}: its extended attributes take {} bytes, too many for a .tar.zst",
                            member.path, bytes.size()));
  if (!member.hard_link && member.is_regular() && member.size > 0)
    builder_.set_data(number, stream_ + bytes.size(), {});
  header_digest_.update(bytes);
  return bytes;
}

Result<void> ZstWriter::place(const Member& member, std::uint32_t number, Payload payload) {
  const ByteSpan data(payload.bytes);
  if (data.size() > options_.frame_size || (data.size() >= kSoloFrom && !payload.shrinks)) {
    SHARDFS_CHECK(start(member, number));
    SHARDFS_CHECK(more(data));
    return end();
  }
  SHARDFS_TRY(const Bytes headers, start_member(member, number));
  const Bytes padding(padding_of(data.size()));
  SHARDFS_CHECK(reserve(headers.size() + data.size() + padding.size()));
  for (const ByteSpan part : {ByteSpan(headers), data, ByteSpan(padding)}) collect(part);
  header_digest_.update(padding);
  return {};
}

Result<void> ZstWriter::start(const Member& member, std::uint32_t number) {
  SHARDFS_TRY(const Bytes headers, start_member(member, number));
  SHARDFS_CHECK(reserve(headers.size()));
  collect(headers);
  return close_frame();
}

/// Data in frames of their own.
Result<void> ZstWriter::more(ByteSpan data) {
  while (!data.empty()) {
    if (frame_.empty()) frame_.reserve(options_.frame_size);
    const ByteSpan part =
        data.first(std::min<std::size_t>(data.size(), options_.frame_size - frame_.size()));
    collect(part);
    data = data.subspan(part.size());
    if (frame_.size() == options_.frame_size) SHARDFS_CHECK(close_frame());
  }
  return {};
}

Result<void> ZstWriter::end() {
  SHARDFS_CHECK(close_frame());
  const Bytes padding(padding_of(stream_));
  header_digest_.update(padding);
  collect(padding);
  return {};
}

Result<void> ZstWriter::write_end(ByteSpan index) {
  const Frames& frames = compressor_.frames();
  SHARDFS_CHECK(out_.write(index_frame_header(index.size())));
  SHARDFS_CHECK(out_.write(index));
  SHARDFS_CHECK(out_.write(encode_seek_table(frames.offsets, frames.positions, index.size())));
  return out_.flush();
}

Result<ShardSummary> ZstWriter::close() {
  const std::uint64_t tar_size = stream_;
  const Bytes zeros(closing_zeros(tar_size));
  SHARDFS_CHECK(reserve(zeros.size()));
  collect(zeros);
  SHARDFS_CHECK(close_frame());
  SHARDFS_CHECK(compressor_.finish());
  const Frames& frames = compressor_.frames();
  SHARDFS_TRY(IndexParts parts, builder_.finish(&frames, {}));
  if (parts.index_size() > kMaxIndex)
    return fail(ErrorKind::Unsupported,
                "the index is larger than the 4 GiB a .tar.zst can hold; try: a .tar");

  Superblock& superblock = parts.superblock;
  superblock.container = Container::TarZst;
  superblock.index_position = out_.position();
  superblock.archive_size = out_.position() + kFrameHeader + parts.index_size() +
                            seek_table_size(frames.checksums.size());
  superblock.tar_size = tar_size;
  superblock.header_digest = header_digest_.value();
  const Bytes index = encode_index(superblock, parts.sections);
  parts.sections.clear();
  SHARDFS_CHECK(write_end(index));
  return summarize(superblock, out_.position());
}

}  // namespace

Result<std::unique_ptr<ShardWriter>> create_zst_writer(const ShardOptions& options,
                                                       ByteSink& sink) {
  return std::make_unique<ZstWriter>(options, sink);
}

}  // namespace shardfs
