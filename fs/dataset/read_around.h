// Reads what lies around a first request too, so that small random reads become few large ones.
#pragma once

#include <cstdint>
#include <memory>

#include "fs/base/atomic_set.h"
#include "fs/base/byte_source.h"

namespace shardfs {

/// A file whose neighbourhood is read ahead, once: the first read that touches a window of kWindow
/// bytes has the kernel fetch the whole window into its page cache, without waiting for it. Meant
/// for archives that fit into memory, where every byte will be wanted soon and will still be there
/// then.
class ReadAround final : public ByteSource {
 public:
  /// Bytes. At 1 MiB a shuffled epoch of 20 KB files from a cold disk asks for each window within
  /// its first few per cent; larger ones make the first reads wait longer for nothing.
  static constexpr std::uint64_t kWindow = 1024 * 1024;

  explicit ReadAround(std::unique_ptr<FileSource> file);

  [[nodiscard]] Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override;
  void check_itself() const override { file_->check_itself(); }
  [[nodiscard]] std::uint64_t size() const override { return file_->size(); }
  [[nodiscard]] const std::string& name() const override { return file_->name(); }

 private:
  void announce(std::uint64_t window) const;

  std::unique_ptr<FileSource> file_;
  mutable AtomicSet announced_;  ///< numbers of windows
};

}  // namespace shardfs
