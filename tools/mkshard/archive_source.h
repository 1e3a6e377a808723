// An archive, of any kind that libarchive reads, as a source of members.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "fs/base/result.h"
#include "tools/mkshard/member_source.h"

namespace shardfs {

struct ArchiveSourceOptions {
  std::vector<std::string> excludes;
  bool ignore_failed_read = false;
  unsigned threads = 1;
};

/// The members of the archive `path` ("-": standard input), in its order.
[[nodiscard]] Result<std::unique_ptr<MemberSource>> open_archive_source(
    const std::string& path, ArchiveSourceOptions options);

}  // namespace shardfs
