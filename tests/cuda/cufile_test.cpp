// The real libcufile, where there is neither driver nor GPU: its interface is what is said of it,
// and it refuses in a way that is understood.
#include "cuda/cufile.h"

#include <cstddef>
#include <cstdlib>
#include <type_traits>

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "cuda/cufile_abi.h"

#if SHARDFS_HAVE_CUFILE_H
#include <cufile.h>
#endif

namespace shardfs {
namespace {

#if SHARDFS_HAVE_CUFILE_H
static_assert(sizeof(cufile::Status) == sizeof(CUfileError_t));
static_assert(offsetof(cufile::Status, code) == offsetof(CUfileError_t, err));
static_assert(offsetof(cufile::Status, driver_code) == offsetof(CUfileError_t, cu_err));
static_assert(sizeof(cufile::Descriptor) == sizeof(CUfileDescr_t));
static_assert(offsetof(cufile::Descriptor, type) == offsetof(CUfileDescr_t, type));
static_assert(offsetof(cufile::Descriptor, handle) == offsetof(CUfileDescr_t, handle));
static_assert(offsetof(cufile::Descriptor, operations) == offsetof(CUfileDescr_t, fs_ops));
static_assert(cufile::kOpaqueFd == CU_FILE_HANDLE_TYPE_OPAQUE_FD);
static_assert(cufile::kFirstError == CUFILEOP_BASE_ERR);
static_assert(cufile::kInternalError == CU_FILE_INTERNAL_ERROR);
static_assert(sizeof(CUfileHandle_t) == sizeof(void*));
// The functions take what is passed, and give what is looked at.
static_assert(std::is_invocable_r_v<CUfileError_t, decltype(cuFileDriverOpen)>);
static_assert(std::is_invocable_r_v<CUfileError_t, decltype(cuFileHandleRegister), CUfileHandle_t*,
                                    CUfileDescr_t*>);
static_assert(std::is_invocable_v<decltype(cuFileHandleDeregister), CUfileHandle_t>);
static_assert(std::is_invocable_r_v<CUfileError_t, decltype(cuFileBufRegister), const void*,
                                    std::size_t, int>);
static_assert(std::is_invocable_r_v<CUfileError_t, decltype(cuFileBufDeregister), const void*>);
static_assert(std::is_invocable_r_v<ssize_t, decltype(cuFileRead), CUfileHandle_t, void*,
                                    std::size_t, off_t, off_t>);
#endif

TEST(RealCuFile, RefusesWithoutADriver) {
  const char* const library = SHARDFS_CUFILE_LIBRARY;
  if (*library == '\0') GTEST_SKIP() << "nvidia-cufile is not installed";
  ::setenv("CUFILE_LOGFILE_PATH", "/dev/null", 1);
  void* const loaded = ::dlopen(library, RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(loaded, nullptr) << ::dlerror();
  for (const char* name : {"cuFileDriverOpen", "cuFileHandleRegister", "cuFileHandleDeregister",
                           "cuFileBufRegister", "cuFileBufDeregister", "cuFileRead"})
    EXPECT_NE(::dlsym(loaded, name), nullptr) << name;
  const auto cufile = load_cufile(library);
  if (cufile) GTEST_SKIP() << "there is a driver";
  EXPECT_EQ(cufile.error().kind, ErrorKind::Unsupported);
  const std::string& message = cufile.error().message;
  if (::access("/proc/modules", R_OK) == 0) {
    EXPECT_NE(message.find("cuFile: its driver was refused: error 50"), std::string::npos)
        << message;
  } else {
    EXPECT_NE(message.find("/proc/modules"), std::string::npos) << message;
  }
  // Asked once more it says the same, and does not take it for open.
  EXPECT_FALSE(load_cufile(library));
}

TEST(RealCuFile, NotThere) {
  const auto cufile = load_cufile("libcufile-is-not-here.so.0");
  ASSERT_FALSE(cufile);
  EXPECT_EQ(cufile.error().kind, ErrorKind::Unsupported);
}

}  // namespace
}  // namespace shardfs
