// Blocks that do not refer to each other, decoded by several threads and given in their order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <future>

#include "fs/archive/foreign/codec.h"
#include "fs/base/bytes.h"
#include "fs/base/result.h"

namespace shardfs {

/// A block that is there whole.
struct PackedBlock {
  Coder coder;
  std::uint64_t offset = 0, size = 0;  ///< in the file, as LayoutBuilder::add() takes them
  Bytes packed;                        ///< the bytes that have any bit of it
  std::size_t likely = 0, most = 0;    ///< what it decodes to, bytes: about, and in the queue

  /// Where it begins in its first byte.
  [[nodiscard]] unsigned first_bit() const {
    return coder.codec == Codec::Bzip2 ? static_cast<unsigned>(offset % 8) : 0;
  }
};

/// What a block decodes to, or that it does not end with its bytes.
struct Whole {
  Bytes bytes = {};
  bool is_cut = false;
};

/// All that `block` decodes to. Errors as Decoder::step; Corrupt too where it ends before its bytes
/// do, NoSpace where it gives more than `most` bytes. Any thread.
[[nodiscard]] Result<Whole> decode_whole(const PackedBlock& block, std::size_t most);

/// A queue of blocks that are being decoded. One thread at a time uses it.
class BlocksAhead {
 public:
  BlocksAhead();

  [[nodiscard]] bool empty() const { return blocks_.empty(); }
  /// Whether there is a processor for one more, and memory.
  [[nodiscard]] bool wants_more() const;
  void push(PackedBlock block);

  struct Taken {
    PackedBlock block;
    Result<Whole> decoded;
  };
  /// Takes the oldest, when it is decoded; `look` is called meanwhile, as wait_for() does.
  /// REQUIRES: !empty().
  [[nodiscard]] Taken pop(const std::function<void()>& look);

 private:
  struct Pending {
    PackedBlock block;
    std::future<Result<Whole>> decoded;  // last, for it is waited for before the block goes
  };
  unsigned threads_;
  std::size_t most_ = 0;  ///< bytes that the blocks in the queue decode to, together
  std::deque<Pending> blocks_;
};

}  // namespace shardfs
