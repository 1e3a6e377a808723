#include "fs/archive/foreign/pieces.h"

#include <algorithm>
#include <chrono>
#include <latch>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/foreign/files.h"

namespace shardfs {
namespace {

Bytes random_bytes(std::size_t size) {
  std::mt19937 random(1);
  Bytes bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

std::vector<Piece> cut(std::uint64_t begin, ByteSpan stream, std::size_t step, bool finish) {
  std::vector<Piece> pieces;
  PieceCutter cutter([&](Piece piece) { pieces.push_back(std::move(piece)); });
  for (std::uint64_t at = begin; at < stream.size(); at += step)
    cutter.pass(at, stream.subspan(at, std::min<std::size_t>(step, stream.size() - at)));
  if (finish) cutter.finish(stream.size());
  return pieces;
}

void expect_pieces(const std::vector<Piece>& pieces, ByteSpan stream, std::uint64_t first,
                   std::uint64_t end) {
  std::uint64_t at = first * kDecodedPieceBytes;
  for (const Piece& piece : pieces) {
    EXPECT_EQ(piece->position, at);
    const ByteSpan wanted = stream.subspan(at, std::min(kDecodedPieceBytes, stream.size() - at));
    EXPECT_TRUE(testing::same(piece->bytes, wanted));
    at += piece->bytes.size();
  }
  EXPECT_EQ(at, end);
}

TEST(PieceCutter, GivesWholePiecesHoweverTheyPass) {
  const Bytes stream = random_bytes(3 * kDecodedPieceBytes + 1000);
  for (const std::size_t step : {std::size_t{777}, std::size_t{kDecodedPieceBytes}, stream.size()})
    expect_pieces(cut(0, stream, step, false), stream, 0, 3 * kDecodedPieceBytes);
}

TEST(PieceCutter, TheLastPieceIsShorter) {
  const Bytes stream = random_bytes(2 * kDecodedPieceBytes + 1000);
  expect_pieces(cut(0, stream, 5000, true), stream, 0, stream.size());
  expect_pieces(cut(0, ByteSpan(stream).first(2 * kDecodedPieceBytes), 5000, true), stream, 0,
                2 * kDecodedPieceBytes);
}

TEST(PieceCutter, BeginsAtTheNextPiece) {
  const Bytes stream = random_bytes(3 * kDecodedPieceBytes);
  expect_pieces(cut(kDecodedPieceBytes / 2, stream, 10'000, true), stream, 1, stream.size());
}

TEST(PieceCutter, APieceWithAGapIsNone) {
  const Bytes stream = random_bytes(3 * kDecodedPieceBytes);
  std::vector<Piece> pieces;
  PieceCutter cutter([&](Piece piece) { pieces.push_back(std::move(piece)); });
  const ByteSpan bytes = stream;
  cutter.pass(0, bytes.first(kDecodedPieceBytes - 10));
  cutter.pass(kDecodedPieceBytes - 5,
              bytes.subspan(kDecodedPieceBytes - 5, kDecodedPieceBytes + 5));
  cutter.pass(2 * kDecodedPieceBytes + 5, bytes.subspan(2 * kDecodedPieceBytes + 5));
  cutter.finish(stream.size());
  expect_pieces(pieces, stream, 1, 2 * kDecodedPieceBytes);
}

/// A source that keeps pieces, when it is let.
class Shelf final : public ByteSource {
 public:
  [[nodiscard]] Result<void> read_at(std::uint64_t, std::span<std::byte>) const override {
    return {};
  }
  [[nodiscard]] bool keeps_decoded() const override { return true; }
  [[nodiscard]] DecodedPiece find_decoded(std::uint64_t position, std::span<std::byte>,
                                          std::chrono::milliseconds) const override {
    open_.wait();
    return {.turn = std::make_unique<Turn>(*this, position)};
  }
  [[nodiscard]] std::uint64_t size() const override { return 0; }
  [[nodiscard]] const std::string& name() const override { return name_; }

  void open() { open_.count_down(); }
  std::map<std::uint64_t, Bytes> kept() const {
    const std::lock_guard lock(mutex_);
    return kept_;
  }

 private:
  class Turn final : public DecodeTurn {
   public:
    Turn(const Shelf& shelf, std::uint64_t position) : shelf_(shelf), position_(position) {}
    void keep(ByteSpan piece) override {
      const std::lock_guard lock(shelf_.mutex_);
      shelf_.kept_.emplace(position_, Bytes(piece.begin(), piece.end()));
    }

   private:
    const Shelf& shelf_;
    std::uint64_t position_;
  };

  std::string name_ = "shelf";
  mutable std::latch open_{1};
  mutable std::mutex mutex_;
  mutable std::map<std::uint64_t, Bytes> kept_;
};

Piece piece_at(std::uint64_t number) {
  auto piece = std::make_shared<DecodedBlock>();
  piece->position = number * kDecodedPieceBytes;
  piece->bytes = Bytes(3, static_cast<std::byte>(number));
  return piece;
}

TEST(PieceKeeper, KeepsAllWhereItMayWait) {
  Shelf shelf;
  shelf.open();
  PieceKeeper keeper(shelf);
  constexpr std::uint64_t kMany = 3 * PieceKeeper::kMostWaiting;
  for (std::uint64_t n = 0; n < kMany; ++n) keeper.keep(piece_at(n), nullptr, Wait::Yes);
  keeper.flush();
  const auto kept = shelf.kept();
  ASSERT_EQ(kept.size(), kMany);
  for (std::uint64_t n = 0; n < kMany; ++n)
    EXPECT_EQ(kept.at(n * kDecodedPieceBytes), piece_at(n)->bytes) << n;
}

TEST(PieceKeeper, DropsWhatItCannotKeepAtOnce) {
  Shelf shelf;
  PieceKeeper keeper(shelf);
  constexpr std::uint64_t kMany = 3 * PieceKeeper::kMostWaiting;
  for (std::uint64_t n = 0; n < kMany; ++n) keeper.keep(piece_at(n), nullptr, Wait::No);
  shelf.open();
  keeper.flush();
  // One may have been taken off the queue before it was full.
  EXPECT_GE(shelf.kept().size(), PieceKeeper::kMostWaiting);
  EXPECT_LE(shelf.kept().size(), PieceKeeper::kMostWaiting + 1);
}

TEST(PieceKeeper, EndsWithoutKeepingTheRest) {
  Shelf shelf;
  {
    PieceKeeper keeper(shelf);
    for (std::uint64_t n = 0; n < PieceKeeper::kMostWaiting; ++n)
      keeper.keep(piece_at(n), nullptr, Wait::No);
    shelf.open();
  }
  EXPECT_LE(shelf.kept().size(), PieceKeeper::kMostWaiting);
}

}  // namespace
}  // namespace shardfs
