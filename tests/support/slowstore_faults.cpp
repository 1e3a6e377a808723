#include "tests/support/slowstore_faults.h"

#include <algorithm>

namespace slowstore {
namespace {

void apply(const Fault& fault, std::size_t asked, Effect& effect) {
  switch (fault.kind) {
    case Fault::Kind::Fail:
      effect.error = fault.error;
      break;
    case Fault::Kind::Stall:
      effect.stalled = true;
      break;
    case Fault::Kind::Short:
      effect.limit = fault.bytes.value_or(asked / 2);
      break;
    case Fault::Kind::Flip:
      effect.flips.push_back(fault.range);
      break;
  }
}

}  // namespace

void Faults::clear_stalls() {
  std::erase_if(faults_, [](const Fault& fault) { return fault.kind == Fault::Kind::Stall; });
}

Effect Faults::meet(const std::string& name, std::uint64_t offset, std::size_t asked) {
  Effect effect;
  const Range read{offset, offset + asked};
  for (Fault& fault : faults_) {
    if ((fault.name && *fault.name != name) || !fault.range.touches(read)) continue;
    apply(fault, asked, effect);
    if (fault.count) --*fault.count;
  }
  std::erase_if(faults_, [](const Fault& fault) { return fault.count == 0; });
  return effect;
}

Damage spoil(const Effect& effect, std::uint64_t offset, char* data, std::size_t& size) {
  Damage damage;
  if (effect.limit && *effect.limit < size) {
    size = *effect.limit;
    damage.shortened = true;
  }
  for (const Range& range : effect.flips) {
    const std::uint64_t begin = std::max(range.begin, offset);
    const std::uint64_t end = std::min(range.end, offset + size);
    if (begin >= end) continue;
    data[begin + (end - begin) / 2 - offset] ^= 1;
    damage.flipped = true;
  }
  return damage;
}

}  // namespace slowstore
