#include "fs/archive/libarchive/library.h"

#include "fs/base/shared_library.h"

namespace shardfs {

namespace libarchive {
#define SHARDFS_DEFINE(name) decltype(&::name) name = nullptr;
SHARDFS_LIBARCHIVE(SHARDFS_DEFINE)
#undef SHARDFS_DEFINE
}  // namespace libarchive

namespace {

Result<void> load() {
  SHARDFS_TRY(const SharedLibrary library, SharedLibrary::open(SHARDFS_LIBARCHIVE_FILE));
#define SHARDFS_FIND(name) SHARDFS_CHECK(library.find(#name, libarchive::name));
  SHARDFS_LIBARCHIVE(SHARDFS_FIND)
#undef SHARDFS_FIND
  return {};
}

}  // namespace

Result<void> load_libarchive() {
  static const Result<void> loaded = [] {
    auto done = load();
    if (!done)
      done.error().message += "; try: install it, for archives other than shards, zip and squashfs";
    return done;
  }();
  return loaded;
}

}  // namespace shardfs
