#include "fs/archive/foreign/foreign_archive.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "fs/archive/foreign/crc32.h"
#include "fs/archive/verify.h"
#include "fs/base/checksum.h"

namespace shardfs {

namespace {

/// Where blocks are larger on average, so much is decoded for each small file that a shard pays: at
/// some 200 MB/s more than a millisecond.
constexpr std::uint64_t kSlowBlock = 256 * 1024;
/// Of a file that is verified, read at a time.
constexpr std::size_t kVerifyRead = 1024 * 1024;

std::string_view name_of(Access access) {
  switch (access) {
    case Access::Random:
      return "random";
    case Access::Frame:
      return "frame";
    case Access::Sequential:
      return "sequential";
  }
  return "";
}

/// Bytes of FOREIGN_FACTS before the format's name.
constexpr std::size_t kFactsSize = 32;

Result<ForeignFacts> decode_facts(const Index& index) {
  const ByteSpan bytes = index.section(Section::ForeignFacts);
  if (bytes.size() < kFactsSize || load<std::uint32_t>(bytes.data()) > 2)
    return fail(ErrorKind::Corrupt, "index: what it is an index of is not said");
  return ForeignFacts{std::string(as_text(bytes.subspan(kFactsSize))),
                      static_cast<Access>(load<std::uint32_t>(bytes.data()))};
}

bool ends_by_itself(Codec codec) {
  switch (codec) {
    case Codec::Zlib:
    case Codec::Gzip:
    case Codec::Zstd:
    case Codec::Xz:
    case Codec::Bzip2:
    case Codec::Lz4:
      return true;
    default:
      return false;
  }
}

/// As in BlockStart::checksum.
std::uint64_t checksum_of(const ForeignBlock& block, ByteSpan decoded) {
  if (block.coder.codec != Codec::Lzma && block.coder.codec != Codec::Lzma2)
    return checksum64(decoded);
  return BlockStart::kIsCrc | crc32_of(decoded);
}

/// Where a block lies in the file, in bytes.
std::uint64_t bytes_of(const ForeignBlock& block, std::uint64_t& offset) {
  if (block.coder.codec != Codec::Bzip2) {
    offset = block.offset;
    return block.packed;
  }
  offset = block.offset / 8;
  return (block.offset % 8 + block.packed + 7) / 8;
}

std::uint64_t packed_bytes(const ForeignBlock& block) {
  std::uint64_t offset = 0;
  return bytes_of(block, offset);
}

}  // namespace

Result<std::unique_ptr<Archive>> ForeignArchive::open(
    std::shared_ptr<const ByteSource> source, Index index, Remarks remarks,
    std::uint64_t cache_bytes, std::shared_ptr<const StableNumbers> numbers) {
  const auto named = [&](Error error) {
    error.message = source->name() + ": " + error.message;
    return std::unexpected(std::move(error));
  };
  auto kept = std::make_unique<Index>(std::move(index));
  auto tree = Tree::open(*kept);
  if (!tree) return named(std::move(tree).error());
  auto blocks = BlockTable::open(*kept);
  if (!blocks) return named(std::move(blocks).error());
  auto facts = decode_facts(*kept);
  if (!facts) return named(std::move(facts).error());
  return std::unique_ptr<Archive>(
      new ForeignArchive(std::move(source), std::move(kept), *std::move(tree), *blocks, *facts,
                         std::move(remarks), cache_bytes, std::move(numbers)));
}

ArchiveState ForeignArchive::state(const Index& index) {
  ArchiveState state;
  const ByteSpan bytes = index.section(Section::ForeignFacts);
  if (bytes.size() < kFactsSize) return state;
  state.size = index.superblock.archive_size;
  state.mtime = {load<std::int64_t>(bytes.data() + 8), load<std::uint32_t>(bytes.data() + 4)};
  std::ranges::copy(bytes.subspan(16, state.digest.size()), state.digest.begin());
  return state;
}

ArchiveInfo ForeignArchive::info() const {
  ArchiveInfo info = counts();
  info.format = facts_.format;
  info.container = facts_.format;
  info.access = name_of(facts_.access);
  info.checksum = "none";
  const bool slow = blocks_.size() != 0 && stream_size() / blocks_.size() > kSlowBlock;
  if (facts_.access == Access::Sequential || (facts_.access == Access::Frame && slow))
    info.remedy = fmt::format("mkshard {} -o NEW.tar.zst", source().name());
  return info;
}

std::unexpected<Error> ForeignArchive::bad(const Request& request, std::uint64_t b,
                                           const ForeignBlock& block, std::string_view what) const {
  std::uint64_t offset = 0;
  bytes_of(block, offset);
  return damaged(request.inode, what, "block", b, offset);
}

Result<void> ForeignArchive::read_source(const Request& request, std::uint64_t b,
                                         std::uint64_t offset, std::span<std::byte> out) const {
  auto done =
      request.wait == Wait::No ? source().try_read_at(offset, out) : source().read_at(offset, out);
  if (!done) return cannot_read(std::move(done).error(), request.inode, "block", b, offset);
  return {};
}

Result<void> ForeignArchive::take_slice(const Request& request, std::uint64_t b,
                                        const ForeignBlock& block, std::uint64_t skip,
                                        std::span<std::byte> out) const {
  const std::uint64_t begin = block.offset + skip;
  if (begin > stream_size() || out.size() > stream_size() - begin)
    return bad(request, b, block, "its data lie nowhere");
  Request part{request.inode, begin, begin + out.size(), out.data(), request.decoded,
               request.wait,  true,  request.for_piece};
  return fill(part);
}

/// The bytes of block `b` from `skip` on.
Result<void> ForeignArchive::take(Request& request, std::uint64_t b, const ForeignBlock& block,
                                  std::uint64_t skip, std::span<std::byte> out) const {
  switch (block.coder.codec) {
    case Codec::Zero:
      std::ranges::fill(out, std::byte{0});
      return {};
    case Codec::Stored:
      if (skip > block.packed || out.size() > block.packed - skip)
        return bad(request, b, block, "its data end too early");
      return read_source(request, b, block.offset + skip, out);
    case Codec::Slice:
      if (request.in_slice || skip > block.packed || out.size() > block.packed - skip)
        return bad(request, b, block, "its data lie nowhere");
      return take_slice(request, b, block, skip, out);
    default:
      if (!request.for_piece && is_kept(block))
        return take_kept(request, block.position + skip, out);
      return is_in_steps(packed_bytes(block), block.length)
                 ? take_streamed(request, b, block, skip, out)
                 : take_decoded(request, b, block, skip, out);
  }
}

Result<void> ForeignArchive::fill(Request& request) const {
  const std::uint64_t first = request.begin;
  while (request.begin < request.end) {
    if (blocks_.size() == 0 || request.end > stream_size())
      return fail(ErrorKind::Corrupt, fmt::format("{}: {}: index: its data lie nowhere",
                                                  source().name(), path_of(request.inode)));
    const std::uint64_t b = blocks_.find(request.begin);
    SHARDFS_TRY(const ForeignBlock block, blocks_.at(b));
    const std::uint64_t skip = request.begin - block.position;
    // Where one block ends another begins: none may hold what the one before has given.
    const bool is_next = request.begin == first || skip == 0;
    if (request.begin < block.position || skip >= block.length || !is_next)
      return bad(request, b, block, "its data lie nowhere");
    const std::uint64_t size = std::min(block.length - skip, request.end - request.begin);
    SHARDFS_CHECK(take(request, b, block, skip, {request.out, size}));
    request.out += size;
    request.begin += size;
  }
  return {};
}

// ---- pieces ----

/// Slices and zeros come behind all that is decoded.
std::uint64_t ForeignArchive::end_of_decoded(const BlockTable& blocks) {
  std::uint64_t low = 0, high = blocks.size(), end = 0;
  while (low < high) {
    const std::uint64_t middle = low + (high - low) / 2;
    const auto block = blocks.at(middle);
    if (!block) return 0;
    const bool behind = block->coder.codec == Codec::Slice || block->coder.codec == Codec::Zero;
    if (!behind) end = block->position + block->length;
    (behind ? high : low) = behind ? middle : middle + 1;
  }
  return end;
}

/// Whether a part of `block` is worth being kept: it takes longer to decode than to ask the node's
/// cache for, or all that is before it must be decoded too.
bool ForeignArchive::is_kept(const ForeignBlock& block) const {
  if (block.position + block.length > decoded_end_) return false;
  switch (block.coder.codec) {
    case Codec::Deflate:
    case Codec::Gzip:
    case Codec::Xz:
    case Codec::Bzip2:
      return block.length > kMaxWhole || source().keeps_decoded();
    case Codec::Zstd:
    case Codec::Lz4:
      return block.length > kMaxWhole;
    default:
      return false;
  }
}

Result<void> ForeignArchive::take_kept(const Request& request, std::uint64_t position,
                                       std::span<std::byte> out) const {
  while (!out.empty()) {
    SHARDFS_TRY(const Piece decoded, piece(request, position / kDecodedPieceBytes));
    const ByteSpan rest = ByteSpan(decoded->bytes).subspan(position - decoded->position);
    const ByteSpan part = rest.first(std::min(rest.size(), out.size()));
    if (part.empty()) return fail(ErrorKind::Corrupt, "index: data lie nowhere");
    std::ranges::copy(part, out.begin());
    if (request.decoded != nullptr) *request.decoded = decoded;
    position += part.size();
    out = out.subspan(part.size());
  }
  return {};
}

Result<Piece> ForeignArchive::piece(const Request& request, std::uint64_t number) const {
  if (auto known = cache_.find(kPiece | number)) return known;
  if (request.wait == Wait::No) return would_wait();  // for what it takes to decode
  const std::lock_guard one_at_a_time(piece_readers_[number % kReaders]);
  if (auto known = cache_.find(kPiece | number)) return known;
  SHARDFS_TRY(auto made, make_piece(request, number));
  cache_.insert(kPiece | number, made);
  return made;
}

Result<Piece> ForeignArchive::make_piece(const Request& request, std::uint64_t number) const {
  auto made = std::make_shared<DecodedBlock>();
  made->position = number * kDecodedPieceBytes;
  made->bytes.resize(std::min(kDecodedPieceBytes, decoded_end_ - made->position));
  const std::uint64_t sum = blocks_.piece_sum(number);
  DecodedPiece known;
  if (sum != 0)
    known = source().find_decoded(made->position, made->bytes, ByteSource::kPiecePatience);
  if (known.is_found && checksum64(made->bytes) == sum) return made;
  Request whole{request.inode, made->position, made->position + made->bytes.size(),
                made->bytes.data()};
  whole.for_piece = true;
  SHARDFS_CHECK(fill(whole));
  if (sum != 0 && checksum64(made->bytes) != sum)
    return damaged(request.inode, "it is not what it was", "piece", number, 0);
  if (known.turn) keeper_.keep(made, std::move(known.turn), Wait::No);
  return made;
}

/// What a cursor has passed is decoded already, whoever wants it next.
void ForeignArchive::note_passed(const Piece& piece) const {
  const std::uint64_t number = piece->position / kDecodedPieceBytes;
  const std::uint64_t sum = blocks_.piece_sum(number);
  if (cache_.find(kPiece | number) || (sum != 0 && checksum64(piece->bytes) != sum)) return;
  cache_.insert(kPiece | number, piece);
  if (source().keeps_decoded() && sum != 0) keeper_.keep(piece, nullptr, Wait::No);
}

// ---- blocks that are decoded whole ----

Result<std::shared_ptr<const DecodedBlock>> ForeignArchive::decode(const Request& request,
                                                                   std::uint64_t b,
                                                                   const ForeignBlock& block,
                                                                   ByteSpan packed) const {
  SHARDFS_TRY(auto start, blocks_.start(b));
  if (block.coder.codec == Codec::Bzip2)
    start = BlockStart{static_cast<unsigned>(block.offset % 8), {}, 0};
  const Turn turn(block.length >= kLarge ? &decoding_ : nullptr);
  auto decoded = std::make_shared<DecodedBlock>();
  decoded->position = block.position;
  // One byte more shows where a block is longer than it should be, and has its checksum looked at.
  decoded->bytes.resize(block.length + (ends_by_itself(block.coder.codec) ? 1 : 0));
  const auto got = decode_block(block.coder, packed, decoded->bytes, start ? &*start : nullptr);
  if (!got) return bad(request, b, block, got.error().message);
  if (*got > block.length) return bad(request, b, block, "it is longer than it was");
  decoded->bytes.resize(*got);
  if (start && start->checksum != 0 && start->checksum != checksum_of(block, decoded->bytes))
    return bad(request, b, block, "it is not what it was");
  return decoded;
}

Result<Bytes> ForeignArchive::packed_block(const Request& request, std::uint64_t b,
                                           const ForeignBlock& block) const {
  std::uint64_t offset = 0;
  const std::uint64_t size = bytes_of(block, offset);
  if (offset > source().size()) return bad(request, b, block, "lies behind the archive's end");
  Bytes packed(std::min(size, source().size() - offset));
  SHARDFS_CHECK(read_source(request, b, offset, packed));
  return packed;
}

Result<void> ForeignArchive::read_again(const Request& request, std::uint64_t b,
                                        const ForeignBlock& block,
                                        std::span<std::byte> packed) const {
  std::uint64_t offset = 0;
  bytes_of(block, offset);
  auto again = source().reread_at(offset, packed);
  if (!again) return cannot_read(std::move(again).error(), request.inode, "block", b, offset);
  return {};
}

/// decode(packed) of a block; what cannot be decoded is fetched once more, from its origin.
template <typename Decode>
auto ForeignArchive::decode_twice(const Request& request, std::uint64_t b,
                                  const ForeignBlock& block, const Decode& decode) const
    -> decltype(decode(ByteSpan{})) {
  SHARDFS_TRY(Bytes packed, packed_block(request, b, block));
  auto decoded = decode(packed);
  if (decoded || decoded.error().kind != ErrorKind::Corrupt || !source().may_wait()) return decoded;
  if (request.wait == Wait::No) return would_wait();
  SHARDFS_CHECK(read_again(request, b, block, packed));
  return decode(packed);
}

/// A member of a zip is read once and by one reader, mostly: nothing of it is kept.
Result<void> ForeignArchive::take_whole(const Request& request, std::uint64_t b,
                                        const ForeignBlock& block, std::span<std::byte> out) const {
  return decode_twice(request, b, block, [&](ByteSpan packed) -> Result<void> {
    const auto got = decode_block(block.coder, packed, out);
    if (!got) return bad(request, b, block, got.error().message);
    if (*got != out.size()) return bad(request, b, block, "its data end too early");
    return {};
  });
}

// ---- members that have no place of their own ----

/// Blocks of members are in the order of their numbers.
std::optional<std::uint64_t> ForeignArchive::block_of_member(std::uint64_t number) const {
  std::uint64_t low = 0, high = blocks_.size();
  while (low < high) {
    const std::uint64_t middle = low + (high - low) / 2;
    const auto block = blocks_.at(middle);
    if (!block) return std::nullopt;
    if (block->offset == number) return middle;
    (block->offset < number ? low : high) = block->offset < number ? middle + 1 : middle;
  }
  return std::nullopt;
}

Result<BlockCache::Block> ForeignArchive::read_member(const Request& request, std::uint64_t b,
                                                      const ForeignBlock& block) const {
  if (request.wait == Wait::No) return would_wait();  // for all members before it
  const std::lock_guard one_at_a_time(members_mutex_);
  BlockCache::Block wanted = cache_.find(b);
  if (wanted) return wanted;
  const auto take = [&](std::uint64_t number, Bytes bytes) {
    const auto at = block_of_member(number);
    const auto known = at ? blocks_.at(*at) : fail(ErrorKind::Corrupt, {});
    if (!known || known->length != bytes.size()) return;
    auto decoded = std::make_shared<DecodedBlock>();
    decoded->position = known->position;
    decoded->bytes = std::move(bytes);
    if (*at == b) wanted = decoded;
    cache_.insert(*at, std::move(decoded));
  };
  const auto done = members_.read(block.offset, kMaxWhole, take);
  if (!done && done.error().kind != ErrorKind::Corrupt)
    return cannot_read(done.error(), request.inode, "block", b, 0);
  if (!done) return bad(request, b, block, done.error().message);
  if (!wanted) return bad(request, b, block, "it is not what it was");
  return wanted;
}

Result<void> ForeignArchive::take_decoded(const Request& request, std::uint64_t b,
                                          const ForeignBlock& block, std::uint64_t skip,
                                          std::span<std::byte> out) const {
  if (block.coder.codec == Codec::Zip && skip == 0 && out.size() == block.length)
    return take_whole(request, b, block, out);
  BlockCache::Block decoded = cache_.find(b);
  if (!decoded) {
    std::unique_lock reader(readers_[b % kReaders], std::defer_lock);
    if (block.length >= kLarge && block.coder.codec != Codec::Member) {
      // Who reads it may be waiting for storage.
      if (request.wait == Wait::Yes || !source().may_wait()) {
        reader.lock();
      } else if (!reader.try_lock()) {
        return would_wait();
      }
      decoded = cache_.find(b);
    }
    if (!decoded && block.coder.codec == Codec::Member) {
      SHARDFS_TRY(decoded, read_member(request, b, block));
    } else if (!decoded) {
      SHARDFS_TRY(decoded, decode_twice(request, b, block, [&](ByteSpan packed) {
                    return decode(request, b, block, packed);
                  }));
      cache_.insert(b, decoded);
    }
  }
  if (skip > decoded->bytes.size() || out.size() > decoded->bytes.size() - skip)
    return bad(request, b, block, "its data end too early");
  std::ranges::copy(ByteSpan(decoded->bytes).subspan(skip, out.size()), out.begin());
  if (request.decoded != nullptr) *request.decoded = decoded;
  return {};
}

// ---- blocks that are too large for that ----

Result<void> ForeignArchive::advance(const Request& request, Cursor& cursor,
                                     const ForeignBlock& block, std::span<std::byte> out) const {
  while (!out.empty()) {
    if (cursor.used == cursor.input.size()) {
      const std::uint64_t left = block.packed - cursor.taken;
      cursor.input.resize(std::min<std::uint64_t>(kRequest, left));
      cursor.used = 0;
      SHARDFS_CHECK(read_source(request, cursor.block, block.offset + cursor.taken, cursor.input));
      cursor.taken += cursor.input.size();
    }
    ByteSpan in = ByteSpan(cursor.input).subspan(cursor.used);
    const std::size_t room = out.size(), held = in.size();
    const auto step = cursor.decoder->step(in, out);
    if (!step) return bad(request, cursor.block, block, step.error().message);
    cursor.used += held - in.size();
    cursor.position += room - out.size();
    const bool stuck = room == out.size() && held == in.size();
    if (!out.empty() && (*step == Decoder::Progress::Done || stuck))
      return bad(request, cursor.block, block, "its data end too early");
  }
  return {};
}

Result<void> ForeignArchive::take_streamed(const Request& request, std::uint64_t b,
                                           const ForeignBlock& block, std::uint64_t skip,
                                           std::span<std::byte> out) const {
  if (request.wait == Wait::No) return would_wait();  // for what is before it
  if (block.coder.codec == Codec::Bzip2 || block.packed > source().size())
    return bad(request, b, block, "it is too large");
  const std::lock_guard lock(cursors_mutex_);
  // Another reader may have passed it meanwhile.
  const std::uint64_t position = block.position + skip;
  const auto known = cache_.find(kPiece | position / kDecodedPieceBytes);
  if (known && position - known->position + out.size() <= known->bytes.size()) {
    std::ranges::copy(ByteSpan(known->bytes).subspan(position - known->position, out.size()),
                      out.begin());
    return {};
  }
  const auto here = [&](const Cursor& c) { return c.block == b && c.position <= skip; };
  auto found = std::ranges::find_if(cursors_, here);
  if (found == cursors_.end()) {
    if (cursors_.size() == kMaxCursors) cursors_.pop_back();
    SHARDFS_TRY(const auto start, blocks_.start(b));
    auto decoder = make_decoder(block.coder, start ? &*start : nullptr);
    if (!decoder) return bad(request, b, block, decoder.error().message);
    found = cursors_.insert(cursors_.begin(), Cursor{});
    found->block = b;
    found->decoder = *std::move(decoder);
  }
  Bytes passed(std::min<std::uint64_t>(kRequest, skip - found->position));
  PieceCutter cutter([this](const Piece& piece) { note_passed(piece); });
  Result<void> done;
  while (done && found->position < skip) {
    const auto part =
        std::span(passed).first(std::min<std::uint64_t>(passed.size(), skip - found->position));
    const std::uint64_t position = block.position + found->position;
    done = advance(request, *found, block, part);
    if (done) cutter.pass(position, part);
  }
  if (done) done = advance(request, *found, block, out);
  if (done) {
    cursors_.splice(cursors_.begin(), cursors_, found);
  } else {
    cursors_.erase(found);
  }
  return done;
}

// ---- what is asked of an archive ----

Result<std::size_t> ForeignArchive::read_some(Entry inode, std::uint64_t offset,
                                              std::span<std::byte> out, Wait wait,
                                              std::shared_ptr<const DecodedBlock>* decoded) const {
  SHARDFS_TRY(const std::uint64_t wanted, readable(inode, offset, out.size()));
  if (wanted == 0) return 0;
  SHARDFS_TRY(const std::uint64_t position, data_position(inode, stream_size()));
  const std::uint64_t begin = position + offset;
  Request request{inode, begin, begin + wanted, out.data(), decoded, wait};
  SHARDFS_CHECK(fill(request));
  return wanted;
}

// A window is for what lies together anyway: in one block, or in an archive that is its own stream.
Result<void> ForeignArchive::window(Entry inode, std::uint64_t size, DecodedBlock& part) const {
  SHARDFS_TRY(const Stretch wanted, stretch(inode, size, stream_size()));
  SHARDFS_TRY(const std::uint64_t position, data_position(inode, stream_size()));
  const std::uint64_t b = blocks_.find(position);
  SHARDFS_TRY(const ForeignBlock block, blocks_.at(b));
  if (position < block.position || position - block.position >= block.length)
    return damaged(inode, "its data lie nowhere", "block", b, block.offset);
  const std::uint64_t begin = std::max(wanted.begin, block.position);
  const std::uint64_t end = std::min(wanted.end, block.position + block.length);
  part.position = begin;
  part.bytes.resize(end - begin);
  Request request{inode, begin, end, part.bytes.data()};
  return fill(request);
}

Result<void> ForeignArchive::append_extents(Entry inode, std::uint64_t begin, std::uint64_t end,
                                            bool in_slice, std::vector<Extent>& list) const {
  while (begin < end) {
    const std::uint64_t b = blocks_.find(begin);
    SHARDFS_TRY(const ForeignBlock block, blocks_.at(b));
    const std::uint64_t skip = begin - block.position;
    if (begin < block.position || skip >= block.length)
      return damaged(inode, "its data lie nowhere", "block", b, block.offset);
    const std::uint64_t size = std::min(block.length - skip, end - begin);
    std::uint64_t offset = 0;
    const std::uint64_t packed = bytes_of(block, offset);
    if (block.coder.codec == Codec::Slice && !in_slice) {
      SHARDFS_CHECK(
          append_extents(inode, block.offset + skip, block.offset + skip + size, true, list));
    } else if (block.coder.codec == Codec::Stored) {
      list.push_back({offset + skip, size, true, 0, size});
    } else {
      list.push_back({offset, packed, false, skip, size});
    }
    begin += size;
  }
  return {};
}

Result<std::vector<Extent>> ForeignArchive::extents(Entry inode) const {
  const std::uint64_t whole = UINT64_MAX;
  SHARDFS_TRY(const std::uint64_t size, readable(inode, 0, whole));
  std::vector<Extent> list;
  if (size == 0) return list;
  SHARDFS_TRY(const std::uint64_t position, data_position(inode, stream_size()));
  SHARDFS_CHECK(append_extents(inode, position, position + size, false, list));
  return list;
}

// What its own format checks is checked by decoding; stored bytes are only read. What was a shard
// is not as it was packed.
Result<VerifyReport> ForeignArchive::verify(
    unsigned threads, const std::function<bool(std::uint64_t)>& progress) const {
  Findings findings(progress);
  if (remarks_.was_shard) findings.bad("index", 0, 0);
  const auto check = [&](std::uint64_t entry) -> Result<void> {
    const auto inode = static_cast<Entry>(entry);
    const std::uint64_t size = tree().file_size(inode);
    Bytes buffer(std::min<std::uint64_t>(size, kVerifyRead));
    for (std::uint64_t at = 0; at < size; at += buffer.size()) {
      const auto got = read(inode, at, buffer, nullptr);
      if (got) {
        SHARDFS_CHECK(findings.checked(*got));
        continue;
      }
      if (got.error().kind != ErrorKind::Corrupt) return std::unexpected(got.error());
      const Place place = got.error().place.value_or(Place{});
      findings.bad(path_of(inode), place.piece, place.offset);
      break;
    }
    return {};
  };
  SHARDFS_CHECK(run_tasks(source().name(), tree().entries(), threads, check));
  return findings.report();
}

}  // namespace shardfs
