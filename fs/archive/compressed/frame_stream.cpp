#include "fs/archive/compressed/frame_stream.h"

#include "fs/archive/foreign/block_table.h"
#include "fs/base/bytes.h"
#include "fs/tree/index.h"

namespace shardfs {

namespace {

/// Blocks of a frame are joined until they are worth a row of the table, and one of the starts with
/// a checksum: 64 bytes of 256 KiB, which decode in 0.1 ms.
constexpr std::uint64_t kBlocksEnough = 256 * 1024;

}  // namespace

FrameStream::FrameStream(const ByteSource& source, LayoutBuilder& layout, Codec codec,
                         std::uint32_t magic)
    : StreamPass(source, layout),
      codec_(codec),
      magic_(magic),
      group_(blocks_, codec),
      out_(kDecodedStep) {}

void FrameStream::note_open(LayoutBuilder& layout) const {
  if (!inside_ || noted_ != 0 || decoded_ <= kMaxWhole) return;
  group_.note_open(layout);
  layout.add({codec_}, offset_, input_.size_from(offset_), decoded_);
}

/// Skips what is to be skipped; false where the file ends.
Result<bool> FrameStream::begin_frame() {
  for (;;) {
    SHARDFS_TRY(const ByteSpan in, input_.peek(kSkippableHeader + kPlainIndexMagic.size()));
    if (in.empty()) return false;
    if (in.size() < kSkippableHeader) return input_.cut_short();
    const auto magic = load<std::uint32_t>(in.data());
    if (magic == magic_) {
      begin(in);
      break;
    }
    if (!is_skippable(magic)) return input_.damaged("no frame begins");
    const auto size = load<std::uint32_t>(in.data() + sizeof magic);
    if (as_text(in.subspan(kSkippableHeader)).starts_with(kPlainIndexMagic))
      blocks_.note_shard_index();
    SHARDFS_CHECK(input_.skip(kSkippableHeader + std::uint64_t{size}));
  }
  inside_ = true;
  offset_ = input_.position();
  decoded_ = 0;
  entry_ = 0;
  noted_ = 0;
  return true;
}

void FrameStream::note_enterable() {
  if (entry_ != 0 && decoded_ - noted_ < kBlocksEnough) return;
  if (entry_ != 0) note_blocks();
  entry_ = input_.position();
  noted_ = decoded_;
  sum_ = Checksum64();
}

void FrameStream::note_blocks() {
  group_.flush();
  BlockStart start;
  start.checksum = sum_.value();
  blocks_.add(blocks(), entry_, input_.position() - entry_, decoded_ - noted_, start);
}

/// A frame that was worth no row before its end is a whole.
void FrameStream::end_frame() {
  if (noted_ == 0)
    group_.add(offset_, input_.position() - offset_, decoded_);
  else
    note_blocks();
  inside_ = false;
}

Result<ByteSpan> FrameStream::advance() {
  for (;;) {
    if (!inside_) {
      SHARDFS_TRY(inside_, begin_frame());
      if (!inside_) {
        group_.flush();
        return ByteSpan();
      }
    }
    SHARDFS_TRY(const ByteSpan in, input_.peek());
    SHARDFS_TRY(const Step did, step(in, out_));
    input_.take(did.taken);
    decoded_ += did.given;
    if (entry_ != 0) sum_.update(ByteSpan(out_).first(did.given));
    if (did.done) {
      end_frame();
    } else if (did.enterable) {
      note_enterable();
    } else if (did.taken == 0 && did.given == 0) {
      return in.empty() ? input_.cut_short() : input_.damaged("a frame does not go on");
    }
    if (did.given > 0) return ByteSpan(out_).first(did.given);
  }
}

}  // namespace shardfs
