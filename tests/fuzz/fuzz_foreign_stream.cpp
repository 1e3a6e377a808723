// Compressed streams, with a tar in them or anything else.
#include <cstddef>
#include <cstdint>

#include "tests/fuzz/against_libarchive.h"
#include "tests/fuzz/serve.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto archive = std::as_bytes(std::span(data, size));
  shardfs::serve_any(archive);
  shardfs::compare_with_libarchive(archive);
  return 0;
}
