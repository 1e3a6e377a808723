// First header, header and packed data of a 7z.
#include <cstddef>
#include <cstdint>

#include "tests/fuzz/serve.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  shardfs::serve_any(std::as_bytes(std::span(data, size)));
  return 0;
}
