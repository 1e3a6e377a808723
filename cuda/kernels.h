// What runs on the device. Read by the host's compiler and by CUDA's, which is a standard behind.
#pragma once

#include <cstdint>

struct CUstream_st;  // NOLINT: CUDA's name for what cudaStream_t points to

namespace shardfs {

/// Queues the kernel behind Device::scatter(). Returns a cudaError_t.
int launch_scatter(CUstream_st* stream, std::uint64_t table, std::uint32_t count);

/// Whether the current device can run it.
bool are_kernels_for_this_device();

}  // namespace shardfs
