#include "fs/base/shared_library.h"

#include <dlfcn.h>
#include <fmt/format.h>

namespace shardfs {

Result<SharedLibrary> SharedLibrary::open(const std::string& name) {
  void* const handle = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle != nullptr) return SharedLibrary(handle, name);
  const char* const why = ::dlerror();
  return fail(ErrorKind::Unsupported, why != nullptr ? why : name);
}

Result<void*> SharedLibrary::find(const char* name) const {
  void* const address = ::dlsym(handle_, name);
  if (address == nullptr)
    return fail(ErrorKind::Unsupported, fmt::format("{}: has no {}", name_, name));
  return address;
}

}  // namespace shardfs
