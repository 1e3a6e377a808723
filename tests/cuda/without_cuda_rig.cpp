#include "tests/cuda/rig.h"

namespace shardfs::testing {

std::unique_ptr<Rig> cuda_rig() { return nullptr; }

}  // namespace shardfs::testing
