// What is slow to decode is kept by pieces, for all of the node.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "fs/archive/archive.h"
#include "fs/base/byte_source.h"
#include "fs/base/bytes.h"

namespace shardfs {

/// Pieces are cut at multiples of this position of the logical stream, bytes.
inline constexpr std::uint64_t kDecodedPieceBytes = ByteSource::kMaxPiece;

using Piece = std::shared_ptr<const DecodedBlock>;

/// Cuts pieces out of bytes that pass. One thread at a time.
class PieceCutter {
 public:
  using Take = std::function<void(Piece)>;

  /// Each piece that passes whole and in order is given to `take`.
  explicit PieceCutter(Take take) : take_(std::move(take)) {}

  /// `bytes` of the stream, from `position` on.
  void pass(std::uint64_t position, ByteSpan bytes);
  /// The stream ends at `position`: a piece that has passed up to there is the last one, and whole.
  void finish(std::uint64_t position);

 private:
  void give();

  Take take_;
  std::uint64_t begin_ = 0;  ///< of the piece
  Bytes piece_;              ///< what has passed of it
};

/// Has pieces kept (ByteSource::find_decoded) behind whoever has decoded them. Any thread.
class PieceKeeper {
 public:
  /// `source`, of which they are decoded, must outlive it. No thread runs before the first keep().
  explicit PieceKeeper(const ByteSource& source) : source_(source) {}
  /// Waits for the piece that is being kept; what waits behind it is dropped.
  ~PieceKeeper();
  PieceKeeper(const PieceKeeper&) = delete;
  PieceKeeper& operator=(const PieceKeeper&) = delete;

  /// `turn` at it may be null, and is asked for then. Where kMostWaiting pieces wait already this
  /// one is dropped, or waits for room with Wait::Yes.
  void keep(Piece piece, std::unique_ptr<DecodeTurn> turn, Wait wait);
  /// Waits until all that was given is kept.
  void flush();

  /// As many as a large frame begins with that a scan does not keep (KeptStream).
  static constexpr std::size_t kMostWaiting = 64;

 private:
  struct Job {
    Piece piece;
    std::unique_ptr<DecodeTurn> turn;
  };
  void run();
  void work(Job job);

  const ByteSource& source_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> queue_;  ///< guarded by mutex_, like all below
  bool working_ = false;
  bool stopping_ = false;
  std::jthread thread_;
};

}  // namespace shardfs
