// Which container suits the data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fs/base/bytes.h"
#include "fs/base/result.h"
#include "fs/tree/index.h"
#include "tools/mkshard/member_source.h"

namespace shardfs {

/// The first members of a source: kept until the container is chosen, then packed like all others.
struct Sample {
  std::vector<Item> items;
  std::uint64_t bytes = 0;  ///< of file data in `items`
  bool whole = false;       ///< the source has no more
};

/// Takes steps from `source` until there are 16 MiB of file data or 65,536 members.
[[nodiscard]] Result<Sample> take_sample(MemberSource& source);

struct ContainerChoice {
  Container container = Container::Tar;
  std::string reason;  ///< "the first 16.0 MiB shrink to 41 %"
};

/// `.tar.zst` if the sample's file data, at most 16 MiB of them, cut into frames of 64 KiB and
/// compressed at `level`, save a tenth or more. Uses `threads` threads; the outcome does not depend
/// on them.
[[nodiscard]] ContainerChoice choose_container(const Sample& sample, int level, unsigned threads);

}  // namespace shardfs
