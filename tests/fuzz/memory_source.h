// An archive in memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>

#include "fs/base/byte_source.h"
#include "fs/base/bytes.h"

namespace shardfs {

/// The bytes must outlive it.
class MemorySource final : public ByteSource {
 public:
  explicit MemorySource(ByteSpan bytes) : bytes_(bytes) {}

  Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    if (offset > bytes_.size() || out.size() > bytes_.size() - offset)
      return fail(ErrorKind::Corrupt, name_ + ": ends early");
    std::ranges::copy(bytes_.subspan(offset, out.size()), out.begin());
    return {};
  }
  std::uint64_t size() const override { return bytes_.size(); }
  const std::string& name() const override { return name_; }

 private:
  ByteSpan bytes_;
  std::string name_ = "memory";
};

}  // namespace shardfs
