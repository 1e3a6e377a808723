#include "tools/shardfs/mount_cache_options.h"

#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <string_view>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "tools/common/size.h"

namespace shardfs {

namespace {

/// Options take precedence: this is what they replace.
void from_environment(const char* name, std::string& value) {
  const char* const set = std::getenv(name);
  if (set != nullptr && *set != '\0') value = set;
}

std::unexpected<Error> wrong(std::string_view option, std::string_view value, const char* what) {
  return fail(ErrorKind::Invalid,
              fmt::format("{} {}: {}; try: shardfs mount --help", option, value, what));
}

/// "40%" as 40.
std::optional<std::uint64_t> percent(std::string_view text) {
  std::uint64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, err] = std::from_chars(text.data(), end, value);
  if (err != std::errc() || stop + 1 != end || *stop != '%' || value > 100) return std::nullopt;
  return value;
}

Result<std::optional<Tier>> tier_of(const std::string& text) {
  if (text == "auto") return std::nullopt;
  for (const Tier tier : {Tier::None, Tier::Memory, Tier::Disk, Tier::Partial}) {
    if (text == name(tier)) return tier;
  }
  return wrong("--tier", text, "not one of auto, memory, disk, partial, none");
}

Result<std::uint32_t> number_of(std::string_view option, const std::string& text,
                                std::uint32_t least, std::uint32_t most) {
  std::uint32_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, err] = std::from_chars(text.data(), end, value);
  if (err != std::errc() || stop != end || value < least || value > most)
    return fail(ErrorKind::Invalid, fmt::format("{} {}: not a number from {} to {}; try: shardfs "
                                                "mount --help",
                                                option, text, least, most));
  return value;
}

Result<void> set_reserve(const std::string& text, CacheSettings& settings) {
  if (const auto share = percent(text)) {
    struct statvfs st {};
    if (!settings.directory.empty() && ::statvfs(settings.directory.c_str(), &st) == 0)
      settings.reserve = std::uint64_t{st.f_blocks} * st.f_frsize / 100 * *share;
    return {};
  }
  SHARDFS_TRY(settings.reserve, parse_size(text));
  return {};
}

}  // namespace

void add_cache_options(CLI::App& app, MountCacheOptions& options) {
  from_environment("SHARDFS_TIER", options.tier);
  from_environment("SHARDFS_CACHE_SIZE", options.size);
  from_environment("SHARDFS_RESERVE", options.reserve);
  from_environment("SHARDFS_STORE_RATE", options.rate);
  from_environment("SHARDFS_STORE_INFLIGHT", options.inflight);
  from_environment("SHARDFS_STORE_TIMEOUT", options.timeout);
  app.add_option("--tier", options.tier, "auto, memory, disk, partial or none: where to cache");
  app.add_option("--cache-dir", options.directory, "Parent of the cache; default: $SLURM_TMPDIR");
  app.add_option("--cache-size", options.size, "Most bytes of it: N[KMGT] or N%; default: all");
  app.add_option("--reserve", options.reserve, "Left free there: N[KMGT] or N%; default: 5%");
  app.add_option("--store-rate", options.rate, "Most small requests a second to the archive");
  app.add_option("--store-inflight", options.inflight, "Most requests to it at a time (8)");
  app.add_flag("--save-index", options.save_index, "Keep a scanned archive's index beside it");
  app.add_option("--hot-list", options.hot_list,
                 "Fetch first what it names; kept for the next job");
  app.add_option("--store-timeout", options.timeout, "For one request, with retries (60s)");
}

Result<CacheSettings> cache_settings(const MountCacheOptions& options) {
  CacheSettings settings;
  settings.save_index = options.save_index;
  settings.hints_follow =
      !options.hot_list.empty() && ::access(options.hot_list.c_str(), R_OK) == 0;
  SHARDFS_TRY(settings.tier, tier_of(options.tier));
  settings.directory = options.directory.empty() ? default_cache_parent() : options.directory;
  std::error_code failed;
  if (!settings.directory.empty())
    settings.directory = std::filesystem::absolute(settings.directory, failed).string();
  if (const auto share = percent(options.size)) {
    settings.limit_percent = share;
  } else if (!options.size.empty()) {
    SHARDFS_TRY(settings.limit, parse_size(options.size));
  }
  if (!options.reserve.empty()) SHARDFS_CHECK(set_reserve(options.reserve, settings));
  SHARDFS_TRY(settings.store_rate, number_of("--store-rate", options.rate, 0, 1'000'000));
  SHARDFS_TRY(settings.store_inflight, number_of("--store-inflight", options.inflight, 1, 32));
  const auto timeout = parse_time(options.timeout);
  if (!timeout) return wrong("--store-timeout", options.timeout, "not a time such as 60s or 500ms");
  settings.store_timeout_ms = static_cast<std::uint32_t>(timeout->count());
  return settings;
}

}  // namespace shardfs
