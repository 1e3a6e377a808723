// What a shard's index knows of its members and the tar in it does not tell.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "fs/archive/archive.h"
#include "fs/tree/builder.h"

namespace shardfs {

/// For packing a shard again. Any thread.
class ShardFacts {
 public:
  /// Knows nothing where `path` is no shard, or not one that can be read.
  explicit ShardFacts(const std::string& path);

  /// The root, for which a shard has no member; nothing where nothing is known.
  [[nodiscard]] std::optional<Member> root() const;

  /// Completes a member of the shard: its time to the nanosecond and its holes.
  void complete(Member& member) const;

 private:
  std::unique_ptr<Archive> shard_;
};

}  // namespace shardfs
