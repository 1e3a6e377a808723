#include "fs/archive/shard/output.h"

namespace shardfs {

namespace {
constexpr std::size_t kBuffer = 1024 * 1024;
}

Result<void> Output::write(ByteSpan bytes) {
  position_ += bytes.size();
  if (buffer_.size() + bytes.size() > kBuffer) {
    SHARDFS_CHECK(flush());
    if (bytes.size() >= kBuffer) return sink_.write(bytes);
  }
  buffer_.reserve(kBuffer);
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  return {};
}

Result<void> Output::zeros(std::uint64_t count) { return write(Bytes(count)); }

Result<void> Output::flush() {
  if (buffer_.empty()) return {};
  SHARDFS_CHECK(sink_.write(buffer_));
  buffer_.clear();
  return {};
}

}  // namespace shardfs
