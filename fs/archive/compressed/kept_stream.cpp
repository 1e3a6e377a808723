#include "fs/archive/compressed/kept_stream.h"

#include <utility>

#include "fs/archive/foreign/block_table.h"
#include "fs/base/checksum.h"

namespace shardfs {

KeptStream::KeptStream(std::unique_ptr<DecodedStream> stream, const ByteSource& source,
                       LayoutBuilder& layout)
    : stream_(std::move(stream)),
      source_(source),
      layout_(layout),
      keeper_(source),
      cutter_([this](Piece piece) { take(std::move(piece)); }) {}

void KeptStream::take(Piece piece) {
  layout_.set_piece_sum(piece->position / kDecodedPieceBytes, checksum64(piece->bytes));
  const bool is_fast = stream_->name() == "zst" || stream_->name() == "lz4";
  const bool is_deep = piece->position > block_begin_ + kMaxWhole;
  if (source_.keeps_decoded() && (!is_fast || is_deep))
    keeper_.keep(std::move(piece), nullptr, Wait::Yes);
}

Result<ByteSpan> KeptStream::next() {
  block_begin_ = layout_.end();
  SHARDFS_TRY(const ByteSpan bytes, stream_->next());
  cutter_.pass(position_, bytes);
  position_ += bytes.size();
  if (!bytes.empty()) return bytes;
  cutter_.finish(position_);
  keeper_.flush();
  return bytes;
}

}  // namespace shardfs
