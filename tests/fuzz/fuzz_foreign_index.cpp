// The index of an archive of another format, as it is kept in a file: index and archive in one.
#include <algorithm>
#include <cstdlib>
#include <string>

#include <sys/mman.h>
#include <unistd.h>

#include "fs/archive/foreign/sidecar.h"
#include "fs/base/unique_fd.h"
#include "fs/tree/index.h"
#include "tests/fuzz/memory_source.h"
#include "tests/fuzz/resign.h"
#include "tests/fuzz/serve.h"

namespace {

using namespace shardfs;

constexpr std::size_t kIndexSizeAt = 40, kArchiveSizeAt = 80;
/// In FOREIGN_FACTS: time and digest of the archive's state.
constexpr std::size_t kNanosecondsAt = 4, kSecondsAt = 8, kDigestAt = 16, kFactsSize = 32;

/// Has the index say that it is of this archive, whatever else it says.
void claim(std::span<std::byte> index, ByteSpan archive) {
  const auto state = state_of(MemorySource(archive), {});
  const auto facts = section_in(index, static_cast<std::uint32_t>(Section::ForeignFacts));
  if (!state || facts.size() < kFactsSize) return;
  store<std::uint64_t>(index.data() + kArchiveSizeAt, archive.size());
  store<std::uint32_t>(facts.data() + kNanosecondsAt, 0);
  store<std::int64_t>(facts.data() + kSecondsAt, 0);
  std::ranges::copy(state->digest, facts.begin() + kDigestAt);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  if (size < Superblock::kMinSize) return 0;
  const auto index_size = load<std::uint64_t>(input.data() + kIndexSizeAt);
  if (index_size < Superblock::kMinSize || index_size >= size) return 0;
  Bytes index(input.begin(), input.begin() + static_cast<std::ptrdiff_t>(index_size));
  const ByteSpan archive = input.subspan(index_size);
  claim(index, archive);
  sign_index(index);
  const UniqueFd file(memfd_create("index", MFD_CLOEXEC));
  if (!file || ::write(file.get(), index.data(), index_size) != static_cast<ssize_t>(index_size))
    std::abort();
  serve_by_index(archive, "/proc/self/fd/" + std::to_string(file.get()));
  return 0;
}
