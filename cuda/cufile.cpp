#include "cuda/cufile.h"

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <mutex>
#include <optional>
#include <string_view>

#include <fmt/format.h>
#include <unistd.h>

#include "cuda/cufile_abi.h"
#include "fs/base/shared_library.h"

namespace shardfs {
namespace {

constexpr const char* kStats = "/proc/driver/nvidia-fs/stats";

std::unexpected<Error> refused(std::string_view what, const cufile::Status& status) {
  return fail(
      ErrorKind::Unsupported,
      fmt::format("cuFile: {} refused: error {}{}", what, status.code,
                  status.driver_code == 0 ? "" : fmt::format(", CUDA {}", status.driver_code)));
}

/// The library's functions. It is never unloaded: it has threads of its own.
struct Functions {
  cufile::DriverOpen* driver_open = nullptr;
  cufile::HandleRegister* handle_register = nullptr;
  cufile::HandleDeregister* handle_deregister = nullptr;
  cufile::BufRegister* buf_register = nullptr;
  cufile::BufDeregister* buf_deregister = nullptr;
  cufile::Read* read = nullptr;
};

class LoadedCuFile final : public CuFile {
 public:
  explicit LoadedCuFile(const Functions& functions) : call_(functions) {}

  [[nodiscard]] Result<CuFileHandle> register_file(int fd) override {
    cufile::Descriptor descriptor{};
    descriptor.type = cufile::kOpaqueFd;
    descriptor.handle.fd = fd;
    void* handle = nullptr;
    const auto status = call_.handle_register(&handle, &descriptor);
    if (status.code != 0) return refused("the file was", status);
    return CuFileHandle{handle};
  }
  void release(CuFileHandle file) override { call_.handle_deregister(file.handle); }

  [[nodiscard]] Result<void> register_buffer(DeviceAddress base, std::size_t bytes) override {
    const auto status = call_.buf_register(to_pointer(base), bytes, 0);
    if (status.code != 0) return refused("a buffer was", status);
    return {};
  }
  void release_buffer(DeviceAddress base) override { call_.buf_deregister(to_pointer(base)); }

  [[nodiscard]] Result<std::size_t> read(CuFileHandle file, DeviceAddress base, std::size_t bytes,
                                         std::uint64_t offset, std::uint64_t at) override {
    const ssize_t got = call_.read(file.handle, to_pointer(base), bytes, static_cast<off_t>(offset),
                                   static_cast<off_t>(at));
    if (got >= 0) return static_cast<std::size_t>(got);
    // -1 is a system call's, with errno; what lies below is -CUfileOpError.
    if (got == -1) return fail_errno(errno, "cuFile", "cannot read");
    return refused("a read was", {static_cast<int>(-got), 0});
  }

  [[nodiscard]] std::uint64_t nvidia_fs_reads() const override {
    std::ifstream file(kStats);
    return reads_in({std::istreambuf_iterator<char>(file), {}});
  }

 private:
  Functions call_;
};

Result<Functions> find_functions(const std::string& name) {
  SHARDFS_TRY(const SharedLibrary library, SharedLibrary::open(name));
  Functions found;
  SHARDFS_CHECK(library.find("cuFileDriverOpen", found.driver_open));
  SHARDFS_CHECK(library.find("cuFileHandleRegister", found.handle_register));
  SHARDFS_CHECK(library.find("cuFileHandleDeregister", found.handle_deregister));
  SHARDFS_CHECK(library.find("cuFileBufRegister", found.buf_register));
  SHARDFS_CHECK(library.find("cuFileBufDeregister", found.buf_deregister));
  SHARDFS_CHECK(library.find("cuFileRead", found.read));
  return found;
}

Result<std::shared_ptr<CuFile>> load(const std::string& name) {
  // Version 1.20 reads it for nvidia-fs, and where it is not there, as in some containers, for
  // ever.
  if (::access("/proc/modules", R_OK) != 0)
    return fail(ErrorKind::Unsupported, "cuFile: no /proc/modules, which it looks for drivers in");
  const auto functions = find_functions(name);
  if (!functions) return fail(ErrorKind::Unsupported, "cuFile: " + functions.error().message);
  const auto status = functions->driver_open();
  // The program, or a library of its, may have opened it.
  if (status.code != 0 && status.code != cufile::kDriverAlreadyOpen)
    return refused("its driver was", status);
  return std::make_shared<LoadedCuFile>(*functions);
}

}  // namespace

Result<std::shared_ptr<CuFile>> load_cufile(const std::string& library) {
  // Whoever opens the driver twice is told that it is open already.
  static std::mutex mutex;
  static std::optional<Result<std::shared_ptr<CuFile>>> loaded;
  static std::string loaded_from;
  const std::lock_guard lock(mutex);
  if (!loaded || (!*loaded && loaded_from != library)) {
    loaded = load(library);
    loaded_from = library;
  }
  return *loaded;
}

// "Reads : n=12 ok=12 err=0 ..." where it counts, "Reads : err=0 ..." where it does not.
std::uint64_t reads_in(const std::string& stats) {
  const std::string_view text(stats);
  for (std::size_t line = 0; line < text.size();) {
    const std::size_t end = std::min(text.find('\n', line), text.size());
    const std::string_view one = text.substr(line, end - line);
    line = end + 1;
    if (!one.starts_with("Reads")) continue;
    const std::size_t number = one.find(" n=");
    if (number == std::string_view::npos) return 0;
    std::uint64_t reads = 0;
    std::from_chars(one.data() + number + 3, one.data() + one.size(), reads);
    return reads;
  }
  return 0;
}

}  // namespace shardfs
