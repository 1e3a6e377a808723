// Counts and gathers what goes to a ByteSink, so that it sees large writes.
#pragma once

#include <cstdint>

#include "fs/archive/shard/writer.h"

namespace shardfs {

/// One thread at a time.
class Output {
 public:
  explicit Output(ByteSink& sink) : sink_(sink) {}

  [[nodiscard]] Result<void> write(ByteSpan bytes);
  [[nodiscard]] Result<void> zeros(std::uint64_t count);
  [[nodiscard]] Result<void> flush();
  /// Bytes written so far, in the buffer or out of it.
  [[nodiscard]] std::uint64_t position() const { return position_; }

 private:
  ByteSink& sink_;
  Bytes buffer_;
  std::uint64_t position_ = 0;
};

}  // namespace shardfs
