#include "fs/archive/shard/writer.h"

#include <algorithm>
#include <bit>

#include <fmt/format.h>
#include <sys/stat.h>
#include <zstd.h>

#include "fs/archive/shard/pieces.h"
#include "fs/archive/shard/ustar.h"
#include "fs/archive/shard/writer_base.h"

namespace shardfs {

namespace {

/// A file's first bytes that are tried at level 1: as many as the default frame holds.
constexpr std::size_t kSample = 64 * 1024;
/// Below this a frame of its own costs more than it saves.
constexpr std::size_t kSampleFrom = 4 * 1024;
constexpr std::uint32_t kMinFrame = 4 * 1024, kMaxFrame = 16 * 1024 * 1024;

bool shrinks_by_a_tenth(ByteSpan bytes) {
  if (bytes.size() < kSampleFrom) return true;
  const ByteSpan sample = bytes.first(std::min(bytes.size(), kSample));
  Bytes packed(ZSTD_compressBound(sample.size()));
  const std::size_t size =
      ZSTD_compress(packed.data(), packed.size(), sample.data(), sample.size(), 1);
  return !ZSTD_isError(size) && size <= sample.size() - sample.size() / 10;
}

bool carries_data(const Member& member) { return !member.hard_link && member.is_regular(); }

std::uint64_t data_size(const Member& member) { return carries_data(member) ? member.size : 0; }

Result<void> check(const ShardOptions& o) {
  if (o.container != Container::Tar && o.container != Container::TarZst)
    return fail(ErrorKind::Invalid, "a shard is a .tar or a .tar.zst");
  if (o.level < 1 || o.level > 22)
    return fail(ErrorKind::Invalid, fmt::format("level {}: 1 to 22 are possible", o.level));
  if (o.frame_size < kMinFrame || o.frame_size > kMaxFrame)
    return fail(ErrorKind::Invalid,
                fmt::format("frame size {}: 4 KiB to 16 MiB are possible", o.frame_size));
  if (o.align == 0) return {};
  if (o.align < kTarBlock || o.align > kMaxAlign || !std::has_single_bit(o.align))
    return fail(
        ErrorKind::Invalid,
        fmt::format("alignment {}: a power of two from 512 to {} is possible", o.align, kMaxAlign));
  if (o.container == Container::TarZst)
    return fail(ErrorKind::Invalid, "data in a .tar.zst cannot be aligned; try: a .tar");
  return {};
}

}  // namespace

Payload Payload::prepare(Bytes bytes, Container container) {
  Payload payload;
  if (container == Container::TarZst)
    payload.shrinks = shrinks_by_a_tenth(bytes);
  else
    payload.pieces = piece_checksums(bytes);
  payload.bytes = std::move(bytes);
  return payload;
}

Result<std::unique_ptr<ShardWriter>> ShardWriter::create(const ShardOptions& options,
                                                         ByteSink& sink) {
  SHARDFS_CHECK(check(options));
  return options.container == Container::Tar ? create_tar_writer(options, sink)
                                             : create_zst_writer(options, sink);
}

WriterBase::WriterBase(const ShardOptions& options, ByteSink& sink)
    : options_(options), out_(sink) {
  root_.mode = S_IFDIR | 0755;
}

Result<void> WriterBase::add(const Member& member, Payload payload) {
  if (state_ != State::Ready)
    return fail(ErrorKind::Invalid, member.path + ": added before the end of another file");
  if (payload.bytes.size() != data_size(member))
    return fail(ErrorKind::Invalid, fmt::format("{}: {} bytes of data, not {}", member.path,
                                                payload.bytes.size(), data_size(member)));
  if (options_.container == Container::Tar && payload.pieces.size() != pieces_of(member.size))
    payload.pieces = piece_checksums(payload.bytes);
  return accept(member, std::move(payload));
}

/// The builder's number for it.
Result<std::uint32_t> WriterBase::number(const Member& member) {
  if (builder_.size() == 0) {
    root_.uid = member.uid;
    root_.gid = member.gid;
    root_.mtime = member.mtime;
  }
  return builder_.add(member);
}

Result<void> WriterBase::accept(const Member& member, Payload payload) {
  SHARDFS_TRY(const std::uint32_t n, number(member));
  if (!member.path.empty()) return place(member, n, std::move(payload));
  root_ = member;
  return {};
}

Result<void> WriterBase::begin(const Member& member) {
  if (state_ != State::Ready)
    return fail(ErrorKind::Invalid, member.path + ": begun before the end of another file");
  const bool small = data_size(member) <= std::max<std::uint64_t>(kSmallFile, options_.frame_size);
  open_ = member;
  left_ = data_size(member);
  state_ = small ? State::Gathering : State::Streaming;
  if (!small) {
    SHARDFS_TRY(const std::uint32_t n, number(member));
    return start(member, n);
  }
  gathered_.reserve(left_);
  return left_ == 0 ? end_of_data() : Result<void>();
}

Result<void> WriterBase::append(ByteSpan data) {
  if (data.size() > left_)
    return fail(ErrorKind::Invalid,
                fmt::format("{}: more data than its {} bytes", open_.path, open_.size));
  if (data.empty()) return {};
  left_ -= data.size();
  if (state_ == State::Gathering)
    gathered_.insert(gathered_.end(), data.begin(), data.end());
  else
    SHARDFS_CHECK(more(data));
  return left_ == 0 ? end_of_data() : Result<void>();
}

Result<void> WriterBase::end_of_data() {
  const State was = std::exchange(state_, State::Ready);
  if (was == State::Streaming) return end();
  return accept(open_, Payload::prepare(std::exchange(gathered_, {}), options_.container));
}

Result<ShardSummary> WriterBase::finish() {
  if (state_ != State::Ready)
    return fail(ErrorKind::Invalid, open_.path + ": finished before the end of its data");
  state_ = State::Finished;
  return close();
}

Bytes WriterBase::headers(const Member& member, std::uint64_t position) const {
  return encode_headers(member, options_.tar_mtime_ns, options_.align, position);
}

std::uint64_t padding_of(std::uint64_t size) { return round_up(size, kTarBlock) - size; }

std::uint64_t closing_zeros(std::uint64_t size) {
  return round_up(size + 2 * kTarBlock, kTarRecord) - size;
}

ShardSummary summarize(const Superblock& s, std::uint64_t packed_bytes) {
  return {s.container, s.files, s.entries, s.file_bytes, packed_bytes, s.index_size, s.id()};
}

}  // namespace shardfs
