#include "fs/archive/foreign/pieces.h"

#include <algorithm>
#include <chrono>
#include <system_error>
#include <utility>

namespace shardfs {

void PieceCutter::pass(std::uint64_t position, ByteSpan bytes) {
  if (position != begin_ + piece_.size()) {
    piece_.clear();
    begin_ = round_up(position, kDecodedPieceBytes);
    bytes = bytes.subspan(std::min<std::uint64_t>(begin_ - position, bytes.size()));
  }
  while (!bytes.empty()) {
    piece_.reserve(kDecodedPieceBytes);
    const auto part =
        bytes.first(std::min<std::uint64_t>(kDecodedPieceBytes - piece_.size(), bytes.size()));
    append(piece_, part);
    bytes = bytes.subspan(part.size());
    if (piece_.size() == kDecodedPieceBytes) give();
  }
}

void PieceCutter::finish(std::uint64_t position) {
  if (!piece_.empty() && position == begin_ + piece_.size()) give();
}

void PieceCutter::give() {
  auto whole = std::make_shared<DecodedBlock>();
  whole->position = std::exchange(begin_, begin_ + kDecodedPieceBytes);
  whole->bytes = std::exchange(piece_, {});
  take_(std::move(whole));
}

PieceKeeper::~PieceKeeper() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
}

void PieceKeeper::keep(Piece piece, std::unique_ptr<DecodeTurn> turn, Wait wait) {
  std::unique_lock lock(mutex_);
  const auto has_room = [this] { return queue_.size() < kMostWaiting || stopping_; };
  if (wait == Wait::Yes) changed_.wait(lock, has_room);
  if (!has_room()) return;
  if (!thread_.joinable()) {
    try {
      thread_ = std::jthread([this] { run(); });
    } catch (const std::system_error&) {
      return;  // A limit of threads: it is decoded again.
    }
  }
  queue_.push_back({std::move(piece), std::move(turn)});
  changed_.notify_all();
}

void PieceKeeper::flush() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return queue_.empty() && !working_; });
}

void PieceKeeper::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return !queue_.empty() || stopping_; });
    if (stopping_) return;
    Job job = std::move(queue_.front());
    queue_.pop_front();
    working_ = true;
    lock.unlock();
    work(std::move(job));
    lock.lock();
    working_ = false;
    changed_.notify_all();
  }
}

void PieceKeeper::work(Job job) {
  if (!job.turn) {
    Bytes known(job.piece->bytes.size());
    // Who is at it already will keep it. Long enough for an answer on a busy node.
    constexpr std::chrono::milliseconds kLittlePatience{100};
    job.turn = source_.find_decoded(job.piece->position, known, kLittlePatience).turn;
  }
  if (job.turn) job.turn->keep(job.piece->bytes);
}

}  // namespace shardfs
