#include "fs/dataset/dataset.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include "cache/common/archive_id.h"
#include "fs/archive/foreign/sidecar.h"
#include "fs/archive/open.h"
#include "fs/base/memory.h"
#include "fs/dataset/read_around.h"

namespace shardfs {

namespace {

/// For the socket and the lock of the memory tier where there is no cache directory.
constexpr const char* kMemoryParent = "/dev/shm";

/// Decoded blocks of a foreign archive that are kept, bytes. Where they are large, as those of gzip
/// are, each is wanted for some fifty files, and decoding it again costs milliseconds.
constexpr std::uint64_t kLeastDecoded = 64 << 20, kMostDecoded = 1 << 30;

/// Most that staging waits before it begins where many nodes start at the same moment.
constexpr std::uint32_t kJitterMs = 1000;

// The other half is for the programs that use the data.
bool fits(std::uint64_t bytes) { return bytes <= available_memory() / 2; }

std::shared_ptr<const ByteSource> with_read_around(std::unique_ptr<FileSource> file) {
  if (!fits(file->size())) return file;
  return std::make_shared<ReadAround>(std::move(file));
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

bool is_one_of_many_nodes() {
  const std::string nodes = environment("SLURM_JOB_NUM_NODES");
  return !environment("SLURM_ARRAY_JOB_ID").empty() || (!nodes.empty() && nodes != "1");
}

std::uint64_t device_of(int fd) {
  struct stat st {};
  return ::fstat(fd, &st) == 0 ? st.st_dev : 0;
}

/// Bytes of the disk that mirrors take.
std::uint64_t mirrored_bytes(const CacheDirectory& directory) {
  std::uint64_t bytes = 0;
  std::error_code failed;
  for (const auto& entry :
       std::filesystem::directory_iterator(directory.path() + "/mirror", failed)) {
    struct stat st {};
    if (::lstat(entry.path().c_str(), &st) == 0) bytes += std::uint64_t{512} * st.st_blocks;
  }
  return bytes;
}

/// What there is of a disk, as far as it is to be used.
void look_at_disk(const CacheSettings& settings, int archive, CacheFacts& facts) {
  if (settings.directory.empty()) {
    facts.why_no_disk = "no --cache-dir, and no $SLURM_TMPDIR";
    return;
  }
  const auto directory = CacheDirectory::open(settings.directory);
  if (!directory) {
    facts.why_no_disk = directory.error().message;
    return;
  }
  facts.disk = directory->file_system();
  // What the cache holds already is its own to use.
  facts.disk->free_bytes += mirrored_bytes(*directory);
  facts.same_device = device_of(archive) == device_of(directory->fd());
  facts.reserve =
      settings.reserve.value_or(facts.disk->bytes / 100 * CacheSettings::kReservePercent);
  if (settings.limit_percent)
    facts.cache_limit =
        std::min(facts.cache_limit, facts.disk->free_bytes / 100 * *settings.limit_percent);
}

Result<CacheFacts> facts_for(const FileSource& file, const CacheSettings& settings) {
  CacheFacts facts;
  facts.archive_bytes = file.size();
  facts.cache_limit = settings.limit;
  facts.asked = settings.tier;
  facts.memory = available_memory();
  SHARDFS_TRY(facts.archive_on, file_system_of(file.fd(), file.name()));
  const bool wanted = settings.tier ? *settings.tier != Tier::None : facts.archive_on.shared;
  if (wanted) look_at_disk(settings, file.fd(), facts);
  return facts;
}

CacheOptions options_for(const CacheSettings& settings, const CacheFacts& facts,
                         const TierChoice& choice) {
  CacheOptions options;
  options.parent = facts.disk ? settings.directory : kMemoryParent;
  options.tier = choice.tier;
  options.server_command = settings.server_command;
  options.hints_follow = settings.hints_follow;
  std::uint64_t disk_limit = facts.cache_limit;
  if (!facts.disk) disk_limit = 0;
  // What is free there now is asked again before each unit.
  if (facts.disk && facts.disk->in_memory)
    disk_limit = std::min(disk_limit, facts.memory / kMemoryShare);
  options.limits = {.bytes = disk_limit,
                    .reserve = facts.reserve,
                    .memory = choice.memory_bytes,
                    .store_rate = settings.store_rate,
                    .store_inflight = settings.store_inflight,
                    .timeout_ms = settings.store_timeout_ms,
                    .jitter_ms = is_one_of_many_nodes() ? kJitterMs : 0};
  return options;
}

/// The index of a foreign archive may lie beside it, or in the cache's directory, if there is one:
/// there it is kept for the other mounts of the job, even if the archive is read in place.
IndexFiles index_files(const FileSource& file, const std::string& path,
                       const CacheSettings& settings) {
  IndexFiles files;
  files.read.push_back(sidecar_path(path));
  if (settings.save_index) files.save.push_back(files.read.front());
  if (settings.tier == Tier::None || settings.directory.empty()) return files;
  const auto directory = CacheDirectory::open(settings.directory);
  const auto facts = archive_facts(file.fd(), file.name());
  if (!directory || !facts) return files;
  files.read.push_back(directory->path() + "/index/" + facts->id.hex());
  files.save.push_back(files.read.back());
  return files;
}

/// `file`, `dataset` and `settings` must outlive the opening.
Result<ForeignOptions> foreign_options(const FileSource& file, const Dataset& dataset,
                                       const CacheSettings& settings) {
  ForeignOptions options;
  options.cache_bytes = std::clamp(available_memory() / 16, kLeastDecoded, kMostDecoded);
  struct stat st {};
  if (::fstat(file.fd(), &st) != 0) return fail_errno(errno, file.name(), "cannot be looked at");
  options.mtime = {st.st_mtim.tv_sec, static_cast<std::uint32_t>(st.st_mtim.tv_nsec)};
  options.index_files = [&] { return index_files(file, dataset.path(), settings); };
  return options;
}

}  // namespace

void Dataset::cancel() const {
  if (cache_) cache_->cancel();
  file_->cancel();
}

Result<UniqueFd> Dataset::open_whole(int flags) const {
  if (cache_) return cache_->open_sealed(flags);
  return reopen(file_->fd(), flags, path_);
}

Result<void> Dataset::check_unchanged() const {
  return cache_ ? Result<void>() : file_->check_unchanged();
}

std::string default_cache_parent() {
  for (const char* name : {"SHARDFS_CACHE_DIR", "SLURM_TMPDIR"}) {
    if (auto value = environment(name); !value.empty()) return value;
  }
  return environment("SLURM_JOB_ID").empty() ? "" : environment("TMPDIR");
}

Result<std::unique_ptr<Dataset>> Dataset::open(const std::string& path) {
  CacheSettings in_place;
  in_place.tier = Tier::None;
  return open(path, in_place);
}

Result<std::unique_ptr<Dataset>> Dataset::open(const std::string& path,
                                               const CacheSettings& settings,
                                               const ScanProgress& progress) {
  SHARDFS_TRY(auto dataset, begin(path, settings));
  SHARDFS_CHECK(dataset->open_archive(progress, {}));
  return dataset;
}

Result<std::unique_ptr<Dataset>> Dataset::begin(const std::string& path,
                                                const CacheSettings& settings) {
  SHARDFS_TRY(auto file, FileSource::open(path));
  std::unique_ptr<Dataset> dataset(new Dataset());
  std::error_code ignored;
  dataset->path_ = std::filesystem::canonical(path, ignored).string();
  if (ignored) dataset->path_ = path;
  dataset->settings_ = settings;
  dataset->file_ = file.get();
  SHARDFS_TRY(const CacheFacts facts, facts_for(*file, settings));
  if (facts.archive_on.shared)
    file->set_shared(std::chrono::milliseconds(settings.store_timeout_ms), settings.store_inflight);
  dataset->tier_ = choose(facts);
  if (dataset->tier_.tier != Tier::None)
    dataset->connect_cache(file, options_for(settings, facts, dataset->tier_));
  dataset->source_ = dataset->cache_;
  if (!dataset->source_)
    dataset->source_ =
        facts.archive_on.shared ? std::move(file) : with_read_around(std::move(file));
  return dataset;
}

/// Leaves `file` to the caller where there is no cache server.
void Dataset::connect_cache(std::unique_ptr<FileSource>& file, const CacheOptions& options) {
  auto source = CachedSource::open(file, options);
  if (source) {
    cache_ = *std::move(source);
    return;
  }
  spdlog::warn("{}; the archive is read in place", source.error().message);
  tier_.tier = Tier::None;
  tier_.reason = "read in place: " + source.error().message;
}

Result<void> Dataset::open_archive(const ScanProgress& progress, const PartsShown& parts) {
  SHARDFS_TRY(ForeignOptions foreign, foreign_options(*file_, *this, settings_));
  foreign.progress = progress;
  foreign.parts = parts;
  auto opened = shardfs::open_archive(source_, foreign);
  if (!opened && cache_ && opened.error().kind != ErrorKind::Interrupted) {
    // It may be the cached index that is damaged: once more, from the archive itself.
    cache_->set_distrust(true);
    opened = shardfs::open_archive(source_, foreign);
    cache_->set_distrust(false);
  }
  SHARDFS_TRY(archive_, std::move(opened));
  const ArchiveInfo info = archive_->info();
  fits_in_memory_ = fits(info.packed_bytes + info.file_bytes);
  return {};
}

}  // namespace shardfs
