#include "tools/mkshard/exclude.h"

#include <algorithm>
#include <array>

#include <fnmatch.h>

namespace shardfs {
namespace {

bool fits(const std::string& pattern, const std::string& path) {
  const char* rest = path.c_str();
  while (true) {
    if (::fnmatch(pattern.c_str(), rest, FNM_LEADING_DIR) == 0) return true;
    rest = std::char_traits<char>::find(rest, std::char_traits<char>::length(rest), '/');
    if (rest == nullptr) return false;
    ++rest;
  }
}

}  // namespace

bool Excludes::match(const std::string& path) const {
  return std::ranges::any_of(patterns_, [&](const std::string& p) { return fits(p, path); });
}

}  // namespace shardfs
