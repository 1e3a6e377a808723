#include "fs/archive/compressed/blocks_ahead.h"

#include <algorithm>
#include <memory>
#include <span>
#include <thread>
#include <utility>

#include "fs/archive/compressed/pass.h"

namespace shardfs {

namespace {

/// As many threads decode faster than any storage reads.
constexpr unsigned kMostThreads = 32;

/// Bytes that the blocks in a queue may decode to, together: ten of those that `xz -T` makes at its
/// default level. A job has gigabytes for each of its processors.
constexpr std::size_t kMostAhead = 256 * 1024 * 1024;

}  // namespace

Result<Whole> decode_whole(const PackedBlock& block, std::size_t most) {
  BlockStart start;
  start.bits = block.first_bit();
  SHARDFS_TRY(const auto decoder, make_decoder(block.coder, start.bits == 0 ? nullptr : &start));
  Bytes out(std::max<std::size_t>(block.likely, 1));
  ByteSpan in = block.packed;
  for (std::size_t size = 0;;) {
    std::span<std::byte> room = std::span(out).subspan(size);
    const std::size_t in_before = in.size(), room_before = room.size();
    SHARDFS_TRY(const auto progress, decoder->step(in, room));
    size = out.size() - room.size();
    if (progress == Decoder::Progress::Done) {
      if (!in.empty()) return fail(ErrorKind::Corrupt, "a block ends too early");
      out.resize(size);
      return Whole{.bytes = std::move(out)};
    }
    if (in.size() != in_before || room.size() != room_before) continue;
    if (size < out.size()) return Whole{.is_cut = true};
    if (size >= most) return fail(ErrorKind::NoSpace, "a block decodes to too much");
    out.resize(std::min(2 * size, most));
  }
}

BlocksAhead::BlocksAhead()
    : threads_(std::clamp(std::thread::hardware_concurrency(), 1U, kMostThreads)) {}

// One more than there are processors: while the oldest is used there are as many to be decoded.
bool BlocksAhead::wants_more() const { return blocks_.size() <= threads_ && most_ < kMostAhead; }

void BlocksAhead::push(PackedBlock block) {
  // With one processor, or where no thread is to be had, it is decoded when it is asked for.
  const auto how =
      threads_ == 1 ? std::launch::deferred : std::launch::async | std::launch::deferred;
  most_ += block.most;
  Pending& pending = blocks_.emplace_back(std::move(block));
  pending.decoded = std::async(how, [&of = pending.block] { return decode_whole(of, of.most); });
}

BlocksAhead::Taken BlocksAhead::pop(const std::function<void()>& look) {
  Pending& oldest = blocks_.front();
  auto decoded = wait_for(oldest.decoded, look);
  Taken taken{std::move(oldest.block), std::move(decoded)};
  blocks_.pop_front();
  most_ -= taken.block.most;
  return taken;
}

}  // namespace shardfs
