// The archive, or its complete copy on the node's disk, as cuFile reads it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "cuda/cufile.h"
#include "fs/base/result.h"
#include "fs/base/unique_fd.h"

namespace shardfs {

/// A file that stays what it was when it was opened, or no byte of it is believed. Any thread.
class DirectFile {
 public:
  /// Of `fd`, which was opened with O_DIRECT. Unsupported: cuFile does not take it.
  [[nodiscard]] static Result<std::unique_ptr<DirectFile>> open(UniqueFd fd,
                                                                std::shared_ptr<CuFile> cufile);
  DirectFile(const DirectFile&) = delete;
  DirectFile& operator=(const DirectFile&) = delete;
  ~DirectFile();

  /// The bytes from `offset` on at `base + at`, where `base` is a registered buffer: the pages that
  /// hold them, whole. REQUIRES: `offset` and `at` are multiples of kDirectAlignment. Corrupt:
  /// shorter than that, or changed since it was opened.
  [[nodiscard]] Result<void> read(DeviceAddress base, std::uint64_t bytes, std::uint64_t offset,
                                  std::uint64_t at) const;

  [[nodiscard]] CuFile* cufile() const { return cufile_.get(); }

  /// Reads its first page to `base` and looks whether nvidia-fs has counted that. An error: cuFile
  /// cannot read this file at all.
  [[nodiscard]] Result<bool> is_served_by_nvidia_fs(DeviceAddress base) const;

 private:
  struct State {
    std::uint64_t size = 0;
    std::int64_t mtime_ns = 0;
    unsigned mode = 0;  ///< a mirror that loses its seal becomes writable
    friend bool operator==(const State&, const State&) = default;
  };
  DirectFile(UniqueFd fd, std::shared_ptr<CuFile> cufile, CuFileHandle handle, const State& state);
  [[nodiscard]] static Result<State> state_of(int fd);

  UniqueFd fd_;
  std::shared_ptr<CuFile> cufile_;
  CuFileHandle handle_;
  State state_;
};

}  // namespace shardfs
