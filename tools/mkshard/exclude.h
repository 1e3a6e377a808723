// Which paths are packed.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace shardfs {

/// --exclude as GNU tar means it: a pattern fits a path if it fits the whole path, or what follows
/// any of its slashes, or a directory above it; "*" fits "/" too.
class Excludes {
 public:
  Excludes() = default;
  explicit Excludes(std::vector<std::string> patterns) : patterns_(std::move(patterns)) {}

  [[nodiscard]] bool empty() const { return patterns_.empty(); }
  [[nodiscard]] bool match(const std::string& path) const;

 private:
  std::vector<std::string> patterns_;
};

}  // namespace shardfs
