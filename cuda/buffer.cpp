#include "cuda/buffer.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include <dlfcn.h>

#include "fs/base/bytes.h"

namespace shardfs {
namespace {

/// What cudaMalloc gives too, and more than the 64 bytes that JAX wants of host memory.
constexpr std::uint64_t kAlignment = 256;

// DLPack's ABI, version 0.x: https://dmlc.github.io/dlpack/latest/c_api.html
struct DLTensor {
  void* data;
  std::int32_t device_type;  // 1: CPU, 2: CUDA
  std::int32_t device_id;
  std::int32_t dimensions;
  std::uint8_t type_code;  // 1: unsigned integer
  std::uint8_t type_bits;
  std::uint16_t type_lanes;
  std::int64_t* shape;
  std::int64_t* strides;  // null: compact
  std::uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor tensor;
  void* context;
  void (*deleter)(DLManagedTensor* self);
};
static_assert(sizeof(DLManagedTensor) == 64);

struct Exported {
  DLManagedTensor managed{};
  std::int64_t length = 0;
  Buffer* buffer = nullptr;
};

void let_go(DLManagedTensor* self) {
  auto* const exported = static_cast<Exported*>(self->context);
  exported->buffer->drop();
  delete exported;
}

}  // namespace

Result<Buffer*> Buffer::make(std::shared_ptr<Device> device, std::uint64_t bytes) {
  const std::uint64_t size = round_up(std::max<std::uint64_t>(bytes, 1), kAlignment);
  DeviceAddress address = 0;
  if (device) {
    SHARDFS_TRY(const DeviceMemory memory, device->allocate(size));
    address = memory.address;
  } else {
    void* const memory = std::aligned_alloc(kAlignment, size);
    if (memory == nullptr)
      return std::unexpected(Error{ErrorKind::NoSpace, ENOMEM, "no memory for the batch"});
    address = reinterpret_cast<DeviceAddress>(memory);
  }
  return new Buffer(std::move(device), address, bytes);
}

Buffer::~Buffer() {
  if (device_) {
    device_->release(DeviceMemory{address_});
  } else {
    std::free(to_pointer(address_));
  }
}

void Buffer::drop() {
  if (--references_ == 0) delete this;
}

void* Buffer::dlpack(std::uint64_t offset, std::uint64_t bytes) {
  if (offset > size_ || bytes > size_ - offset) return nullptr;
  auto* const exported = new Exported();
  keep();
  exported->buffer = this;
  exported->length = static_cast<std::int64_t>(bytes);
  DLTensor& tensor = exported->managed.tensor;
  tensor.data = to_pointer(address_ + offset);
  tensor.device_type = device_ ? 2 : 1;
  tensor.device_id = device_ ? device_->facts().ordinal : 0;
  tensor.dimensions = 1;
  tensor.type_code = 1;
  tensor.type_bits = 8;
  tensor.type_lanes = 1;
  tensor.shape = &exported->length;
  exported->managed.context = exported;
  exported->managed.deleter = let_go;
  return &exported->managed;
}

void drop_capsule(void* capsule) {
  // The interpreter's, which this library is not linked to. Neither call touches an exception.
  using IsValid = int(void* capsule, const char* name);
  using GetPointer = void*(void* capsule, const char* name);
  constexpr const char* kName = "dltensor";
  auto* is_valid = reinterpret_cast<IsValid*>(::dlsym(RTLD_DEFAULT, "PyCapsule_IsValid"));
  auto* get = reinterpret_cast<GetPointer*>(::dlsym(RTLD_DEFAULT, "PyCapsule_GetPointer"));
  if (is_valid == nullptr || get == nullptr || is_valid(capsule, kName) == 0) return;
  let_go(static_cast<DLManagedTensor*>(get(capsule, kName)));
}

}  // namespace shardfs
