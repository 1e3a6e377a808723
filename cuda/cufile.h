// The one place through which cuFile is called.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "cuda/device.h"
#include "fs/base/result.h"

namespace shardfs {

/// A file as cuFile knows it.
struct CuFileHandle {
  void* handle = nullptr;
};

/// What is used of cuFile. Any thread.
class CuFile {
 public:
  virtual ~CuFile() = default;

  /// `fd` must have been opened with O_DIRECT, and stays open until the handle is given back.
  [[nodiscard]] virtual Result<CuFileHandle> register_file(int fd) = 0;
  virtual void release(CuFileHandle file) = 0;
  /// Device memory that is read into often. Whole pages.
  [[nodiscard]] virtual Result<void> register_buffer(DeviceAddress base, std::size_t bytes) = 0;
  virtual void release_buffer(DeviceAddress base) = 0;

  /// Reads `bytes` at `offset` to `base + at`; returns how many came, fewer only at the end of the
  /// file. All three are multiples of kDirectAlignment; `base` is a registered buffer.
  [[nodiscard]] virtual Result<std::size_t> read(CuFileHandle file, DeviceAddress base,
                                                 std::size_t bytes, std::uint64_t offset,
                                                 std::uint64_t at) = 0;

  /// Reads that nvidia-fs has served on this machine since it was loaded; 0 where it is not, or
  /// does not count: the Reads line of /proc/driver/nvidia-fs/stats.
  [[nodiscard]] virtual std::uint64_t nvidia_fs_reads() const = 0;
};

/// What direct reads begin and end at, bytes.
inline constexpr std::uint64_t kDirectAlignment = 4096;

/// Loads `library` and opens cuFile's driver, which may be in its compatible mode: then it reads
/// through the CPU. Unsupported, with the reason, where that cannot be done. Once a process.
[[nodiscard]] Result<std::shared_ptr<CuFile>> load_cufile(const std::string& library);

/// libcufile's own name; found where ld.so looks.
inline constexpr const char* kCuFileLibrary = "libcufile.so.0";

/// The number of reads in the text of /proc/driver/nvidia-fs/stats.
[[nodiscard]] std::uint64_t reads_in(const std::string& stats);

}  // namespace shardfs
