#include "fs/base/checksum.h"

// The dispatching entry points exist on x86 only; elsewhere xxHash chooses at compile time.
#if defined(__x86_64__) || defined(__i386__)
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

#include <new>

namespace shardfs {

std::uint64_t checksum64(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

std::array<std::byte, 16> digest128(std::span<const std::byte> bytes) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes.data(), bytes.size()));
  std::array<std::byte, 16> out;
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = std::byte{canonical.digest[i]};
  return out;
}

struct Checksum64::State {
  struct Free {
    void operator()(XXH3_state_t* p) const { XXH3_freeState(p); }
  };
  std::unique_ptr<XXH3_state_t, Free> xxh{XXH3_createState()};
};

Checksum64::Checksum64() : state_(std::make_unique<State>()) {
  if (!state_->xxh) throw std::bad_alloc();
  XXH3_64bits_reset(state_->xxh.get());
}
Checksum64::Checksum64(Checksum64&&) noexcept = default;
Checksum64& Checksum64::operator=(Checksum64&&) noexcept = default;
Checksum64::~Checksum64() = default;

void Checksum64::update(std::span<const std::byte> bytes) {
  XXH3_64bits_update(state_->xxh.get(), bytes.data(), bytes.size());
}

std::uint64_t Checksum64::value() const { return XXH3_64bits_digest(state_->xxh.get()); }

}  // namespace shardfs
