// A directory as a source of members.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fs/base/result.h"
#include "tools/mkshard/member_source.h"
#include "tools/mkshard/options.h"
#include "tools/mkshard/output_file.h"

namespace shardfs {

struct DirectorySourceOptions {
  std::vector<std::string> excludes;
  std::optional<std::vector<std::string>> files;  ///< pack only these and what is below them
  Order order = OrderByName{};
  std::vector<std::string> order_list;  ///< the paths of an OrderListed
  bool ignore_failed_read = false;
  std::vector<InodeKey> left_out;  ///< the output and its temporary file
  unsigned threads = 1;
};

/// The members of `directory` in the order of `options`; an inode with several names is a file
/// where its first name comes, and hard links to that one after.
[[nodiscard]] Result<std::unique_ptr<MemberSource>> open_directory_source(
    const std::string& directory, DirectorySourceOptions options);

}  // namespace shardfs
