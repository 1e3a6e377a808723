#include "fs/base/memory.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <string_view>

namespace shardfs {

namespace {

constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();

/// The number that a control group's file holds; none ("max", no such file) is no limit.
std::uint64_t limit_in(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::uint64_t limit = 0;
  return in >> limit ? limit : kNoLimit;
}

/// The least limit of `group` and those above it, up to the root of its hierarchy.
std::uint64_t least_limit(const std::filesystem::path& root, std::filesystem::path group,
                          const char* file) {
  std::uint64_t least = kNoLimit;
  for (; group.has_relative_path(); group = group.parent_path())
    least = std::min(least, limit_in(root / group.relative_path() / file));
  return std::min(least, limit_in(root / file));
}

/// Of all control groups of this process: lines "NUMBER:CONTROLLERS:PATH", version 2 without
/// controllers (cgroups(7)).
std::uint64_t group_limit() {
  std::uint64_t least = kNoLimit;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string_view controllers(line.data() + first + 1, second - first - 1);
    const std::filesystem::path group(line.substr(second + 1));
    if (controllers.empty()) {
      least = std::min(least, least_limit("/sys/fs/cgroup", group, "memory.max"));
    } else if (controllers.find("memory") != std::string_view::npos) {
      least = std::min(least, least_limit("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes"));
    }
  }
  return least;
}

std::uint64_t memory_of_machine() {
  std::ifstream meminfo("/proc/meminfo");
  for (std::string key; meminfo >> key;) {
    std::uint64_t kib = 0;
    if (key == "MemAvailable:" && meminfo >> kib) return kib * 1024;
    meminfo.ignore(256, '\n');
  }
  return 0;
}

}  // namespace

std::uint64_t available_memory() { return std::min(memory_of_machine(), group_limit()); }

}  // namespace shardfs
