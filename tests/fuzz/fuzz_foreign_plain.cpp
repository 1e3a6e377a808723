// Archives whose members libarchive finds: tar, cpio, ar, iso.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "tests/fuzz/against_libarchive.h"
#include "tests/fuzz/serve.h"

namespace {

/// An iso image begins with 32 KiB for boot loaders. They are left out of the corpus.
constexpr std::size_t kSystemArea = 32 * 1024;

bool is_image(shardfs::ByteSpan input) {
  return input.size() > 6 && shardfs::as_text(input.subspan(1, 5)) == "CD001";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  const std::size_t in_front = is_image(input) ? kSystemArea : 0;
  shardfs::Bytes archive(in_front + size);
  std::ranges::copy(input, archive.begin() + static_cast<std::ptrdiff_t>(in_front));
  shardfs::serve_any(archive);
  shardfs::compare_with_libarchive(archive);
  return 0;
}
