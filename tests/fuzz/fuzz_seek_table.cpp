// Frames, frame table and seek table of a `.tar.zst`.
#include <cstddef>
#include <cstdint>

#include "tests/fuzz/serve.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  shardfs::serve(std::as_bytes(std::span(data, size)));
  return 0;
}
