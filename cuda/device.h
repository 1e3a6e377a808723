// An accelerator's memory and the copies into it, behind one interface: CUDA's, or a stand-in that
// enforces CUDA's rules where there is no GPU.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "fs/base/result.h"

namespace shardfs {

/// An address in a device's memory. Nothing here follows it.
using DeviceAddress = std::uint64_t;

/// For those who take a pointer, or where the address is one of the host.
[[nodiscard]] inline void* to_pointer(DeviceAddress address) {
  return std::bit_cast<void*>(address);
}

/// Copies and kernels in one stream happen in order; those of different streams in any.
struct Stream {
  void* handle = nullptr;  ///< cudaStream_t
};
/// A moment in a stream.
struct Event {
  void* handle = nullptr;  ///< cudaEvent_t
};
/// Host memory that a device reads by itself, while the program goes on.
struct PinnedMemory {
  std::byte* data = nullptr;
};
struct DeviceMemory {
  DeviceAddress address = 0;
};

/// Memory of a device, as it was asked for.
struct Allocation {
  DeviceAddress begin = 0;
  std::uint64_t bytes = 0;
  [[nodiscard]] bool holds(DeviceAddress address, std::uint64_t length) const {
    return address >= begin && length <= bytes && address - begin <= bytes - length;
  }
};

struct DeviceFacts {
  std::string name;  ///< "NVIDIA H200"
  int ordinal = 0;   ///< as CUDA counts, and CUDA_VISIBLE_DEVICES leaves them
  int major = 0;     ///< compute capability
  int minor = 0;
  bool has_kernels = true;  ///< scatter() works: it is not older than kernels.cu is built for
};

/// One of the pieces that scatter() puts in their places. Its layout is the kernel's.
struct Move {
  DeviceAddress from = 0;
  DeviceAddress to = 0;
  std::uint64_t length = 0;  ///< bytes
};

/// Any thread may call any member at any time; the device that is current in the calling thread
/// stays what it was, but for use().
class Device {
 public:
  virtual ~Device() = default;

  [[nodiscard]] virtual const DeviceFacts& facts() const = 0;

  /// Makes the device the calling thread's own. Going back to another one, as the other members do
  /// in other threads, would make a context there, even if nobody else uses it.
  virtual void use() {}

  /// NoSpace where there is none left. At least 4 KiB aligned.
  [[nodiscard]] virtual Result<DeviceMemory> allocate(std::size_t bytes) = 0;
  /// Waits until nothing that was asked of the device before uses it any more.
  virtual void release(DeviceMemory memory) = 0;
  [[nodiscard]] virtual Result<PinnedMemory> allocate_pinned(std::size_t bytes) = 0;
  virtual void release(PinnedMemory memory) = 0;
  [[nodiscard]] virtual Result<Stream> create_stream() = 0;
  virtual void release(Stream stream) = 0;
  [[nodiscard]] virtual Result<Event> create_event() = 0;
  virtual void release(Event event) = 0;

  /// The allocation that an address is in. Invalid: it is not memory of this device.
  [[nodiscard]] virtual Result<Allocation> allocation_of(DeviceAddress address) = 0;
  /// Whether that is a piece that was mapped (cuMemMap), and not allocated: others may lie beside
  /// it that belong to the same memory.
  [[nodiscard]] virtual bool is_mapped(DeviceAddress address) = 0;

  /// From pinned memory, which must stay as it is until an event after it has happened.
  [[nodiscard]] virtual Result<void> copy(Stream stream, DeviceAddress to, const std::byte* from,
                                          std::size_t bytes) = 0;
  /// Moves pieces within the device's memory, as the `count` Moves at the address `table` on it
  /// say. The places they go to must not overlap each other or where they come from.
  [[nodiscard]] virtual Result<void> scatter(Stream stream, DeviceAddress table,
                                             std::uint32_t count) = 0;
  /// Sets `event` to what `stream` holds now.
  [[nodiscard]] virtual Result<void> record(Event event, Stream stream) = 0;
  /// What is asked of `stream` from now on waits for `event`, as it is set now.
  [[nodiscard]] virtual Result<void> wait_in(Stream stream, Event event) = 0;
  /// Waits for `event`. An event that was never set has happened.
  [[nodiscard]] virtual Result<void> wait(Event event) = 0;
};

/// Owns something of a device, which must outlive it. Move-only.
template <typename T>
class OfDevice {
 public:
  OfDevice() = default;
  OfDevice(Device& device, T value) : device_(&device), value_(value) {}
  OfDevice(OfDevice&& other) noexcept
      : device_(std::exchange(other.device_, nullptr)), value_(other.value_) {}
  OfDevice& operator=(OfDevice&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(value_, other.value_);
    return *this;
  }
  ~OfDevice() {
    if (device_ != nullptr) device_->release(value_);
  }

  [[nodiscard]] const T& operator*() const { return value_; }
  [[nodiscard]] const T* operator->() const { return &value_; }
  [[nodiscard]] explicit operator bool() const { return device_ != nullptr; }

 private:
  Device* device_ = nullptr;
  T value_{};
};

/// Device `ordinal` by CUDA's runtime, which finds the driver itself. Unsupported, with the reason:
/// no driver, no such device, or built without CUDA.
[[nodiscard]] Result<std::shared_ptr<Device>> open_cuda_device(int ordinal);

}  // namespace shardfs
