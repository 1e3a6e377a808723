// A decoded stream that is kept for all of the node as it passes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "fs/archive/compressed/stream.h"
#include "fs/archive/foreign/pieces.h"

namespace shardfs {

/// Notes the checksums of all pieces, and keeps those that are slow to be decoded again: all of
/// gzip, xz and bzip2, and of zstd and lz4 what is deep in a frame that cannot be entered.
class KeptStream final : public DecodedStream {
 public:
  /// `stream` decodes `source` and notes its blocks in `layout`; both must outlive this object.
  KeptStream(std::unique_ptr<DecodedStream> stream, const ByteSource& source,
             LayoutBuilder& layout);

  [[nodiscard]] Result<ByteSpan> next() override;
  [[nodiscard]] Access access() const override { return stream_->access(); }
  void while_waiting(const std::function<void()>& look) override { stream_->while_waiting(look); }
  void note_open(LayoutBuilder& layout) const override { stream_->note_open(layout); }
  [[nodiscard]] std::string name() const override { return stream_->name(); }

 private:
  void take(Piece piece);

  std::unique_ptr<DecodedStream> stream_;
  const ByteSource& source_;
  LayoutBuilder& layout_;
  PieceKeeper keeper_;
  PieceCutter cutter_;
  std::uint64_t position_ = 0;
  std::uint64_t block_begin_ = 0;  ///< of the block or frame that is being decoded
};

}  // namespace shardfs
