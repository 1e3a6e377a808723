// What is used of cuFile's C interface (cufile.h, version 1.x), for builds that do not have it; a
// test holds it against the real header.
// https://docs.nvidia.com/gpudirect-storage/api-reference-guide
#pragma once

#include <cstddef>

#include <sys/types.h>

namespace shardfs::cufile {

/// CUfileError_t. `code` is a CUfileOpError, 0 for success; `driver_code` is CUDA's, for 5011.
struct Status {
  int code;
  int driver_code;
};

/// CUfileDescr_t.
struct Descriptor {
  int type;  ///< kOpaqueFd
  union {
    int fd;
    void* handle;
  } handle;
  const void* operations;  ///< null: those of the kernel
};

inline constexpr int kOpaqueFd = 1;              ///< CU_FILE_HANDLE_TYPE_OPAQUE_FD
inline constexpr int kFirstError = 5000;         ///< CUFILEOP_BASE_ERR
inline constexpr int kDriverAlreadyOpen = 5026;  ///< CU_FILE_DRIVER_ALREADY_OPEN
inline constexpr int kInternalError = 5030;      ///< CU_FILE_INTERNAL_ERROR

using DriverOpen = Status();
using HandleRegister = Status(void** handle, Descriptor* descriptor);
using HandleDeregister = void(void* handle);
using BufRegister = Status(const void* base, std::size_t bytes, int flags);
using BufDeregister = Status(const void* base);
using Read = ssize_t(void* handle, void* base, std::size_t bytes, off_t offset, off_t at);

}  // namespace shardfs::cufile
