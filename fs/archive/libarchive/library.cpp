#include "fs/archive/libarchive/library.h"

#include <dlfcn.h>
#include <fmt/format.h>

namespace shardfs {

namespace libarchive {
#define SHARDFS_DEFINE(name) decltype(&::name) name = nullptr;
SHARDFS_LIBARCHIVE(SHARDFS_DEFINE)
#undef SHARDFS_DEFINE
}  // namespace libarchive

namespace {

std::unexpected<Error> missing() {
  const char* why = ::dlerror();
  return fail(ErrorKind::Unsupported,
              fmt::format("{}; try: install it, for archives other than shards, zip and squashfs",
                          why != nullptr ? why : SHARDFS_LIBARCHIVE_FILE));
}

Result<void> load() {
  void* library = ::dlopen(SHARDFS_LIBARCHIVE_FILE, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return missing();
#define SHARDFS_FIND(name)                                                         \
  libarchive::name = reinterpret_cast<decltype(&::name)>(::dlsym(library, #name)); \
  if (libarchive::name == nullptr) return missing();
  SHARDFS_LIBARCHIVE(SHARDFS_FIND)
#undef SHARDFS_FIND
  return {};
}

}  // namespace

Result<void> load_libarchive() {
  static const Result<void> loaded = load();
  return loaded;
}

}  // namespace shardfs
