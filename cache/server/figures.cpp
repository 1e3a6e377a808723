#include "cache/server/figures.h"

#include <algorithm>
#include <charconv>

#include <nlohmann/json.hpp>
#include <unistd.h>

namespace shardfs {

namespace {

using Json = nlohmann::ordered_json;

// Paths may hold any byte, JSON only text.
std::string text(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json cache_of(const Budget& budget, const CacheDirectory& directory, std::uint64_t block_bytes) {
  const auto now = file_system_of(directory.fd(), directory.path());
  const CacheLimits& limits = budget.limits();
  const std::uint64_t free = now ? now->free_bytes : 0;
  const std::uint64_t room = free - std::min(free, limits.reserve) + budget.disk_bytes();
  return {{"dir", directory.path()},           {"fs", directory.file_system().type},
          {"used_bytes", budget.disk_bytes()}, {"memory_bytes", budget.memory_bytes()},
          {"block_bytes", block_bytes},        {"limit_bytes", std::min(limits.bytes, room)}};
}

}  // namespace

std::string archive_figures(ArchiveCache& archive, const Budget& budget,
                            const CacheDirectory& directory, std::uint64_t block_bytes) {
  const StoreCounters& store = archive.store.counters();
  Json cache = cache_of(budget, directory, block_bytes);
  cache["server"] = ::getpid();
  cache["state"] = archive.state();
  cache["hinted_bytes"] = archive.hinted_bytes();
  cache["failed_hint_bytes"] = archive.failed_hint_bytes();
  return text({{"tier", name(archive.tier())},
               {"staged_bytes", archive.present_bytes()},
               {"store",
                {{"requests", store.requests.load()},
                 {"bytes", store.bytes.load()},
                 {"small_requests", store.small_requests.load()},
                 {"retries", store.retries.load()},
                 {"errors", store.errors.load()},
                 {"stall_s", static_cast<double>(store.stall_ms.load()) / 1000}}},
               {"cache", cache}});
}

std::string directory_figures(const std::vector<ListedArchive>& archives, const Budget& budget,
                              const CacheDirectory& directory, std::uint64_t block_bytes) {
  Json list = Json::array();
  // A packet holds so many.
  constexpr std::size_t kMost = 100;
  for (const ListedArchive& one : std::span(archives).first(std::min(archives.size(), kMost))) {
    list.push_back({{"id", one.id},
                    {"archive", one.path.substr(0, 150)},
                    {"cached_bytes", one.cached_bytes},
                    {"archive_bytes", one.archive_bytes},
                    {"clients", one.clients},
                    {"state", one.state}});
  }
  Json json = cache_of(budget, directory, block_bytes);
  json["archives"] = std::move(list);
  json["not_listed"] = archives.size() - std::min(archives.size(), kMost);
  return text(json);
}

std::optional<ArchiveId> parse_id(std::string_view file) {
  const std::string_view hex = file.substr(0, file.find('.'));
  ArchiveId id;
  if (hex.size() != 2 * id.bytes.size()) return std::nullopt;
  for (std::size_t i = 0; i < id.bytes.size(); ++i) {
    std::uint8_t byte = 0;
    const char* const from = hex.data() + 2 * i;
    const auto [stop, err] = std::from_chars(from, from + 2, byte, 16);
    if (err != std::errc() || stop != from + 2) return std::nullopt;
    id.bytes[i] = std::byte(byte);
  }
  return id;
}

}  // namespace shardfs
