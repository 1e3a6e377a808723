#include "fs/archive/foreign/layout.h"

#include <algorithm>
#include <memory>

#include <fmt/format.h>
#include <sys/stat.h>
#include <zstd.h>

#include "fs/tree/packed_column.h"

namespace shardfs {

namespace {

constexpr int kWindowLevel = 3;

/// A window as the index keeps it: one zstd frame.
Bytes pack_window(ByteSpan window) {
  Bytes packed(ZSTD_compressBound(window.size()));
  const std::size_t size =
      ZSTD_compress(packed.data(), packed.size(), window.data(), window.size(), kWindowLevel);
  packed.resize(ZSTD_isError(size) ? 0 : size);
  return packed;
}

Bytes encode_facts(const ForeignFacts& facts, const ArchiveState& state) {
  Bytes bytes;
  append(bytes, static_cast<std::uint32_t>(facts.access));
  append(bytes, state.mtime.nanoseconds);
  append(bytes, state.mtime.seconds);
  append(bytes, ByteSpan(state.digest));
  append(bytes, std::string_view(facts.format));
  return bytes;
}

}  // namespace

std::uint64_t LayoutBuilder::add(Coder coder, std::uint64_t offset, std::uint64_t packed,
                                 std::uint64_t decoded) {
  const auto known = std::ranges::find(coders_, coder);
  const auto number = static_cast<std::uint8_t>(known - coders_.begin());
  if (known == coders_.end()) coders_.push_back(coder);
  const std::uint64_t position = end_;
  rows_.push_back({offset, packed, position, 0, number});
  end_ += decoded;
  return position;
}

void LayoutBuilder::set_start(const BlockStart& start) {
  const Bytes packed = start.window.empty() ? Bytes{} : pack_window(start.window);
  append(starts_, static_cast<std::uint32_t>(rows_.size() - 1));
  append(starts_, static_cast<std::uint32_t>(start.bits));
  append(starts_, static_cast<std::uint64_t>(windows_.size()));
  append(starts_, static_cast<std::uint32_t>(packed.size()));
  append(starts_, static_cast<std::uint32_t>(start.window.size()));
  append(starts_, start.checksum);
  append(windows_, ByteSpan(packed));
}

void LayoutBuilder::set_piece_sum(std::uint64_t number, std::uint64_t sum) {
  const std::size_t at = number * sizeof sum;
  if (piece_sums_.size() < at + sizeof sum) piece_sums_.resize(at + sizeof sum);
  store(piece_sums_.data() + at, sum);
}

void LayoutBuilder::leave_out(std::string why) {
  ++left_out_count_;
  if (left_out_.size() < kMaxLeftOutNamed) left_out_.push_back(std::move(why));
}

std::optional<std::uint32_t> LayoutBuilder::add_member(const Member& member) {
  if (member.is_symlink() && (member.mode & 07777) != 0777) {
    Member plain = member;  // Linux knows no other mode of a symlink.
    plain.mode = S_IFLNK | 0777;
    return add_member(plain);
  }
  auto added = tree_.add(member);
  if (added) return *added;
  leave_out(std::move(added.error().message));
  return std::nullopt;
}

void LayoutBuilder::add_file(const Member& member, std::uint64_t position) {
  const auto number = add_member(member);
  if (number && !member.hard_link) set_position(*number, position);
}

Result<Index> LayoutBuilder::finish(const ForeignFacts& facts, const ArchiveState& state,
                                    StableNumbers* stable) {
  tree_.leave_out_impossible([this](const std::string& why) { leave_out(why); });
  Frames blocks;
  std::vector<std::uint64_t> sizes, gaps, coder_numbers;
  for (const Row& row : std::exchange(rows_, {})) {
    blocks.offsets.push_back(row.offset);
    blocks.positions.push_back(row.position);
    sizes.push_back(row.packed);
    gaps.push_back(row.gap);
    coder_numbers.push_back(row.coder);
  }
  blocks.offsets.push_back(0);
  blocks.positions.push_back(end_);
  SHARDFS_TRY(IndexParts parts, tree_.finish(&blocks, {}, stable));
  const auto add = [&](Section section, Bytes bytes) {
    if (!bytes.empty()) parts.insert(section, std::move(bytes));
  };
  if (!sizes.empty()) {
    add(Section::BlockSizes, PackedColumn::encode(sizes));
    add(Section::BlockGaps, PackedColumn::encode(gaps));
    add(Section::BlockCoders, PackedColumn::encode(coder_numbers));
  }
  Bytes coders;
  for (const Coder& coder : std::exchange(coders_, {})) {
    append(coders, static_cast<std::uint8_t>(coder.codec));
    append(coders, coder.parameter);
  }
  add(Section::Coders, std::move(coders));
  add(Section::BlockStarts, std::exchange(starts_, {}));
  add(Section::Windows, std::exchange(windows_, {}));
  add(Section::PieceSums, std::exchange(piece_sums_, {}));
  add(Section::ForeignFacts, encode_facts(facts, state));
  Superblock superblock = parts.superblock;
  superblock.container = Container::Foreign;
  superblock.archive_size = state.size;
  superblock.tar_size = std::exchange(end_, 0);
  return Index::decode(encode_index(superblock, parts.sections));
}

}  // namespace shardfs
