#include "fs/archive/compressed/frame_stream.h"

#include "fs/archive/foreign/block_table.h"
#include "fs/base/bytes.h"

namespace shardfs {

FrameStream::FrameStream(const ByteSource& source, LayoutBuilder& layout, Codec codec,
                         std::uint32_t magic)
    : StreamPass(source, layout),
      codec_(codec),
      magic_(magic),
      group_(blocks_, codec),
      out_(kDecodedStep) {}

void FrameStream::note_open(LayoutBuilder& layout) const {
  if (!inside_ || decoded_ <= kMaxWhole) return;
  group_.note_open(layout);
  layout.add({codec_}, offset_, input_.size_from(offset_), decoded_);
}

/// Skips what is to be skipped; false where the file ends.
Result<bool> FrameStream::begin_frame() {
  for (;;) {
    SHARDFS_TRY(const ByteSpan in, input_.peek(kSkippableHeader));
    if (in.empty()) return false;
    if (in.size() < kSkippableHeader) return input_.cut_short();
    const auto magic = load<std::uint32_t>(in.data());
    if (magic == magic_) break;
    if (!is_skippable(magic)) return input_.damaged("no frame begins");
    const auto size = load<std::uint32_t>(in.data() + sizeof magic);
    SHARDFS_CHECK(input_.skip(kSkippableHeader + std::uint64_t{size}));
  }
  inside_ = true;
  offset_ = input_.position();
  decoded_ = 0;
  return true;
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
    if (did.done) {
      group_.add(offset_, input_.position() - offset_, decoded_);
      inside_ = false;
    } else if (did.taken == 0 && did.given == 0) {
      return in.empty() ? input_.cut_short() : input_.damaged("a frame does not go on");
    }
    if (did.given > 0) return ByteSpan(out_).first(did.given);
  }
}

}  // namespace shardfs
