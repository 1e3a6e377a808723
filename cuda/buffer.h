// Memory that is shared by reference, and handed to other libraries as DLPack tensors.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "cuda/device.h"
#include "fs/base/result.h"

namespace shardfs {

/// Device or host memory with a count of who uses it. Made with one reference.
class Buffer {
 public:
  /// `device`: null for host memory. NoSpace.
  [[nodiscard]] static Result<Buffer*> make(std::shared_ptr<Device> device, std::uint64_t bytes);

  void keep() { ++references_; }
  /// The last one frees it.
  void drop();

  [[nodiscard]] DeviceAddress address() const { return address_; }
  [[nodiscard]] std::uint64_t size() const { return size_; }
  /// A DLManagedTensor of unsigned bytes, which keeps the buffer; null if they are not in it.
  [[nodiscard]] void* dlpack(std::uint64_t offset, std::uint64_t bytes);

 private:
  Buffer(std::shared_ptr<Device> device, DeviceAddress address, std::uint64_t size)
      : device_(std::move(device)), address_(address), size_(size) {}
  ~Buffer();

  std::shared_ptr<Device> device_;
  DeviceAddress address_;
  std::uint64_t size_;
  std::atomic<std::uint64_t> references_{1};
};

/// As shardfs_drop_capsule().
void drop_capsule(void* capsule);

}  // namespace shardfs
