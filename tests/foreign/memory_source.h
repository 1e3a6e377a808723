// An archive in memory, for tests.
#pragma once

#include <algorithm>
#include <atomic>
#include <string>
#include <utility>

#include "fs/base/byte_source.h"
#include "fs/base/bytes.h"

namespace shardfs::testing {

/// Counts what it is asked for. Any thread.
class MemorySource final : public ByteSource {
 public:
  explicit MemorySource(Bytes bytes, std::string name = "memory")
      : bytes_(std::move(bytes)), name_(std::move(name)) {}
  Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    if (offset > bytes_.size() || bytes_.size() - offset < out.size())
      return fail(ErrorKind::Corrupt, name_ + ": cut short");
    std::ranges::copy(ByteSpan(bytes_).subspan(offset, out.size()), out.begin());
    ++requests;
    asked += out.size();
    return {};
  }
  std::uint64_t size() const override { return bytes_.size(); }
  const std::string& name() const override { return name_; }

  mutable std::atomic<std::uint64_t> requests{0}, asked{0};

 private:
  Bytes bytes_;
  std::string name_;
};

}  // namespace shardfs::testing
