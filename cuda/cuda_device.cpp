#include <cerrno>
#include <chrono>
#include <string_view>
#include <utility>

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "cuda/device.h"
#include "cuda/kernels.h"

namespace shardfs {
namespace {

Result<void> check(cudaError_t code, std::string_view what) {
  if (code == cudaSuccess) return {};
  const bool no_memory = code == cudaErrorMemoryAllocation;
  return std::unexpected(Error{
      no_memory ? ErrorKind::NoSpace : ErrorKind::Unsupported, no_memory ? ENOMEM : 0,
      fmt::format("{}: {} (CUDA {})", what, cudaGetErrorString(code), static_cast<int>(code))});
}

/// Makes a device current in this thread, for as long as it lives.
class Current {
 public:
  explicit Current(int ordinal) {
    if (cudaGetDevice(&before_) != cudaSuccess) before_ = ordinal;
    if (before_ != ordinal) cudaSetDevice(ordinal);
    now_ = ordinal;
  }
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;
  ~Current() {
    if (before_ != now_) cudaSetDevice(before_);
  }

 private:
  int before_ = 0;
  int now_ = 0;
};

cudaStream_t native(Stream stream) { return static_cast<cudaStream_t>(stream.handle); }
cudaEvent_t native(Event event) { return static_cast<cudaEvent_t>(event.handle); }

constexpr std::chrono::microseconds kSpin{50};

/// cuMemGetAddressRange(), which the runtime has no name for; the driver is not linked to.
using AddressRange = CUresult(CUdeviceptr* begin, std::size_t* bytes, CUdeviceptr address);
/// cuMemRetainAllocationHandle() and cuMemRelease(), likewise.
using RetainHandle = CUresult(CUmemGenericAllocationHandle* handle, void* address);
using ReleaseHandle = CUresult(CUmemGenericAllocationHandle handle);

template <typename Function>
Result<Function*> driver_function(const char* name) {
  void* function = nullptr;
  SHARDFS_CHECK(check(cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault),
                      "the driver"));
  return reinterpret_cast<Function*>(function);
}

struct DriverFunctions {
  AddressRange* address_range = nullptr;
  RetainHandle* retain_handle = nullptr;
  ReleaseHandle* release_handle = nullptr;
};

class CudaDevice final : public Device {
 public:
  CudaDevice(DeviceFacts facts, const DriverFunctions& driver)
      : facts_(std::move(facts)), driver_(driver) {}

  [[nodiscard]] const DeviceFacts& facts() const override { return facts_; }

  void use() override { cudaSetDevice(facts_.ordinal); }

  [[nodiscard]] Result<DeviceMemory> allocate(std::size_t bytes) override {
    const Current current(facts_.ordinal);
    // cudaMalloc aligns to 256 bytes below a megabyte; cuFile wants whole pages.
    void* memory = nullptr;
    SHARDFS_CHECK(check(cudaMalloc(&memory, bytes), "memory of the GPU"));
    return DeviceMemory{reinterpret_cast<DeviceAddress>(memory)};
  }
  void release(DeviceMemory memory) override {
    const Current current(facts_.ordinal);
    cudaFree(to_pointer(memory.address));
  }

  [[nodiscard]] Result<PinnedMemory> allocate_pinned(std::size_t bytes) override {
    const Current current(facts_.ordinal);
    void* memory = nullptr;
    SHARDFS_CHECK(check(cudaHostAlloc(&memory, bytes, cudaHostAllocDefault), "pinned memory"));
    return PinnedMemory{static_cast<std::byte*>(memory)};
  }
  void release(PinnedMemory memory) override { cudaFreeHost(memory.data); }

  // One that the legacy default stream does not wait for, nor it for that one.
  [[nodiscard]] Result<Stream> create_stream() override {
    const Current current(facts_.ordinal);
    cudaStream_t stream = nullptr;
    SHARDFS_CHECK(check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream"));
    return Stream{stream};
  }
  void release(Stream stream) override { cudaStreamDestroy(native(stream)); }

  // Who waits for one sleeps: there may be more readers than CPUs.
  [[nodiscard]] Result<Event> create_event() override {
    const Current current(facts_.ordinal);
    cudaEvent_t event = nullptr;
    SHARDFS_CHECK(
        check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming | cudaEventBlockingSync),
              "an event"));
    return Event{event};
  }
  void release(Event event) override { cudaEventDestroy(native(event)); }

  [[nodiscard]] Result<Allocation> allocation_of(DeviceAddress address) override {
    const Current current(facts_.ordinal);
    cudaPointerAttributes attributes{};
    if (cudaPointerGetAttributes(&attributes, to_pointer(address)) != cudaSuccess ||
        (attributes.type != cudaMemoryTypeDevice && attributes.type != cudaMemoryTypeManaged) ||
        attributes.device != facts_.ordinal)
      return fail(ErrorKind::Invalid,
                  fmt::format("{:#x} is not memory of GPU {}", address, facts_.ordinal));
    std::size_t bytes = 0;
    CUdeviceptr begin = 0;
    if (driver_.address_range(&begin, &bytes, address) != CUDA_SUCCESS)
      return fail(ErrorKind::Invalid, fmt::format("{:#x}: no allocation of the GPU", address));
    return Allocation{begin, bytes};
  }

  [[nodiscard]] bool is_mapped(DeviceAddress address) override {
    const Current current(facts_.ordinal);
    CUmemGenericAllocationHandle handle{};
    if (driver_.retain_handle(&handle, to_pointer(address)) != CUDA_SUCCESS) return false;
    driver_.release_handle(handle);
    return true;
  }

  [[nodiscard]] Result<void> copy(Stream stream, DeviceAddress to, const std::byte* from,
                                  std::size_t bytes) override {
    const Current current(facts_.ordinal);
    return check(
        cudaMemcpyAsync(to_pointer(to), from, bytes, cudaMemcpyHostToDevice, native(stream)),
        "a copy to the GPU");
  }
  [[nodiscard]] Result<void> scatter(Stream stream, DeviceAddress table,
                                     std::uint32_t count) override {
    const Current current(facts_.ordinal);
    return check(static_cast<cudaError_t>(launch_scatter(native(stream), table, count)),
                 "a kernel on the GPU");
  }
  [[nodiscard]] Result<void> record(Event event, Stream stream) override {
    const Current current(facts_.ordinal);
    return check(cudaEventRecord(native(event), native(stream)), "an event on the GPU");
  }
  [[nodiscard]] Result<void> wait_in(Stream stream, Event event) override {
    const Current current(facts_.ordinal);
    return check(cudaStreamWaitEvent(native(stream), native(event), 0), "an event on the GPU");
  }
  // Most copies end within microseconds; to be woken up takes some tens of them.
  [[nodiscard]] Result<void> wait(Event event) override {
    const Current current(facts_.ordinal);
    const auto end = std::chrono::steady_clock::now() + kSpin;
    const auto query = [&] { return cudaEventQuery(native(event)); };
    cudaError_t code = query();
    while (code == cudaErrorNotReady && std::chrono::steady_clock::now() < end) code = query();
    if (code == cudaErrorNotReady) code = cudaEventSynchronize(native(event));
    return check(code, "work on the GPU");
  }

 private:
  DeviceFacts facts_;
  DriverFunctions driver_;
};

}  // namespace

Result<std::shared_ptr<Device>> open_cuda_device(int ordinal) {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  // What a node without any driver is told, too.
  if (code == cudaErrorInsufficientDriver)
    return fail(ErrorKind::Unsupported,
                fmt::format("no NVIDIA driver, or one too old for CUDA {}.{}",
                            CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10));
  SHARDFS_CHECK(check(code, "no GPU"));
  if (ordinal < 0 || ordinal >= count)
    return fail(ErrorKind::Unsupported, fmt::format("no GPU {}: there are {}", ordinal, count));
  cudaDeviceProp properties{};
  SHARDFS_CHECK(check(cudaGetDeviceProperties(&properties, ordinal), "GPU"));
  const Current current(ordinal);
  DeviceFacts facts{properties.name, ordinal, properties.major, properties.minor};
  facts.has_kernels = are_kernels_for_this_device();
  DriverFunctions driver;
  SHARDFS_TRY(driver.address_range, driver_function<AddressRange>("cuMemGetAddressRange"));
  SHARDFS_TRY(driver.retain_handle, driver_function<RetainHandle>("cuMemRetainAllocationHandle"));
  SHARDFS_TRY(driver.release_handle, driver_function<ReleaseHandle>("cuMemRelease"));
  return std::make_shared<CudaDevice>(std::move(facts), driver);
}

}  // namespace shardfs
