#include "cuda/device.h"

namespace shardfs {

Result<std::shared_ptr<Device>> open_cuda_device(int) {
  return fail(ErrorKind::Unsupported, "built without CUDA");
}

}  // namespace shardfs
