#include <cuda_runtime_api.h>

#include "tests/cuda/rig.h"

namespace shardfs::testing {
namespace {

class CudaRig final : public Rig {
 public:
  explicit CudaRig(std::shared_ptr<Device> device) : device_(std::move(device)) {}

  [[nodiscard]] std::shared_ptr<Device> device() override { return device_; }
  [[nodiscard]] std::shared_ptr<CheckedCuFile> cufile() override { return nullptr; }
  // In a stream of its own, which waits for nothing: what is not there yet is not seen.
  [[nodiscard]] Result<Bytes> read_back(DeviceAddress address, std::size_t bytes) override {
    SHARDFS_TRY(const Stream stream, device_->create_stream());
    Bytes read(bytes);
    auto* const native = static_cast<cudaStream_t>(stream.handle);
    cudaError_t code =
        cudaMemcpyAsync(read.data(), to_pointer(address), bytes, cudaMemcpyDeviceToHost, native);
    if (code == cudaSuccess) code = cudaStreamSynchronize(native);
    device_->release(stream);
    if (code != cudaSuccess) return fail(ErrorKind::Invalid, cudaGetErrorString(code));
    return read;
  }
  // Some milliseconds of writing it all over again come first.
  void fill_in(Stream stream, DeviceAddress address, std::byte value, std::size_t bytes) override {
    for (int i = 0; i < 2000; ++i)
      cudaMemsetAsync(to_pointer(address), std::to_integer<int>(value), bytes,
                      static_cast<cudaStream_t>(stream.handle));
  }
  [[nodiscard]] std::vector<std::string> complaints() override {
    const cudaError_t code = cudaDeviceSynchronize();
    if (code == cudaSuccess) return {};
    return {cudaGetErrorString(code)};
  }
  [[nodiscard]] std::size_t large() const override { return 100'000'000; }

 private:
  std::shared_ptr<Device> device_;
};

}  // namespace

std::unique_ptr<Rig> cuda_rig() {
  auto device = open_cuda_device(0);
  if (!device) return nullptr;
  return std::make_unique<CudaRig>(*std::move(device));
}

}  // namespace shardfs::testing
