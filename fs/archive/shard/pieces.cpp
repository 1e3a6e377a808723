#include "fs/archive/shard/pieces.h"

#include <algorithm>
#include <utility>

#include "fs/base/checksum.h"

namespace shardfs {

void PieceHasher::update(ByteSpan bytes) {
  while (!bytes.empty()) {
    const ByteSpan part =
        bytes.first(std::min<std::size_t>(bytes.size(), kPieceBytes - partial_.size()));
    bytes = bytes.subspan(part.size());
    if (part.size() == kPieceBytes) {
      checksums_.push_back(checksum64(part));
      continue;
    }
    partial_.insert(partial_.end(), part.begin(), part.end());
    if (partial_.size() < kPieceBytes) continue;
    checksums_.push_back(checksum64(partial_));
    partial_.clear();
  }
}

std::vector<std::uint64_t> PieceHasher::finish() {
  if (!partial_.empty()) checksums_.push_back(checksum64(partial_));
  partial_.clear();
  return std::exchange(checksums_, {});
}

std::vector<std::uint64_t> piece_checksums(ByteSpan file) {
  PieceHasher hasher;
  hasher.update(file);
  return hasher.finish();
}

}  // namespace shardfs
