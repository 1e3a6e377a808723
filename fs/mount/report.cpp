#include "fs/mount/report.h"

#include <cstdlib>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

namespace shardfs {
namespace {

using Json = nlohmann::ordered_json;

Json head(const Dataset& dataset, const ArchiveInfo& info) {
  return {
      {"schema", 1}, {"version", SHARDFS_VERSION}, {"archive", dataset.path()}, {"id", info.id}};
}

// Paths may hold any byte, JSON only text.
std::string text(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json archive_info(const Dataset& dataset, const Archive& archive) {
  const ArchiveInfo info = archive.info();
  Json json = head(dataset, info);
  json.update({{"format", info.format},
               {"container", info.container},
               {"access", info.access},
               {"files", info.files},
               {"dirs", info.directories},
               {"bytes", info.file_bytes},
               {"packed_bytes", info.packed_bytes},
               {"index_bytes", info.index_bytes},
               {"checksum", info.checksum},
               {"remedy", info.remedy.empty() ? Json(nullptr) : Json(info.remedy)}});
  return json;
}

Json requests(const Counters& counters) {
  Json json = Json::object();
  for (std::size_t i = 0; i < kOps; ++i) {
    const Op op = static_cast<Op>(i);
    json[std::string(name(op))] = counters.of(op);
  }
  return json;
}

/// How far the scan is of an archive of which not all is known; null of any other.
Json scan(const Scene& scene, const Scenes& scenes) {
  if (scene.is_whole()) return nullptr;
  return {{"state", scene.is_last() ? "failed" : "running"},
          {"done_bytes", scenes.bytes_done()},
          {"bytes", scenes.bytes_in_all()}};
}

Json errors(const ErrorLog& log) {
  Json json = Json::array();
  for (const ErrorLog::Entry& error : log.last()) {
    Json one = {{"path", error.path}, {"piece", nullptr}, {"offset", nullptr}};
    if (error.place) one.update({{"piece", error.place->piece}, {"offset", error.place->offset}});
    one.update({{"errno", error.sys_errno}, {"text", error.text}});
    json.push_back(std::move(one));
  }
  return json;
}

Json to_json(const DaemonFigures& figures) {
  return {{"read_bytes", figures.read_bytes}, {"pushed_bytes", figures.pushed_bytes},
          {"hit_bytes", figures.hit_bytes},   {"miss_bytes", figures.miss_bytes},
          {"hit_ratio", figures.hit_ratio()}, {"wait_s", figures.wait_s}};
}

Json to_json(const std::vector<Marks::Mark>& marks) {
  Json json = Json::array();
  for (const Marks::Mark& mark : marks)
    json.push_back({{"label", mark.label}, {"t_s", mark.t_s}, {"daemon", to_json(mark.daemon)}});
  return json;
}

/// The tier, store{} and cache{}: of the cache server, or of this process where it reads the
/// archive itself.
Json storage(const Served& served) {
  const SourceCounters own = served.dataset.store();
  Json json = {{"tier", name(served.dataset.tier().tier)},
               {"staged_bytes", 0},
               {"store",
                {{"requests", own.requests},
                 {"bytes", own.bytes},
                 {"small_requests", own.requests},
                 {"retries", 0},
                 {"errors", own.errors},
                 {"stall_s", 0.0}}},
               {"cache", nullptr}};
  const CachedSource* const cache = served.dataset.cache();
  if (cache == nullptr) return json;
  const auto figures = cache->server_figures();
  const Json told = figures ? Json::parse(*figures, nullptr, false) : Json();
  if (!told.is_object()) {
    json["cache"] = {{"state", "no server"}};
    return json;
  }
  json.update(told);
  // What went past the server has reached the store too.
  for (const auto& [key, value] : {std::pair{"requests", own.requests},
                                   {"bytes", own.bytes},
                                   {"small_requests", own.requests},
                                   {"errors", own.errors}})
    json["store"][key] = json["store"][key].get<std::uint64_t>() + value;
  return json;
}

/// One thing to do about what the figures show; nothing if all is well.
Json suggestion(const Json& stats) {
  const std::string archive = stats["archive"];
  const std::string tier = stats["tier"];
  const double ratio = stats["daemon"]["hit_ratio"];
  if (stats["failed_requests"] > 0) return "shardfs verify " + archive;
  if (tier == "none" && stats["store"]["bytes"] > 2 * stats["bytes"].get<std::uint64_t>())
    return "--cache-dir with a directory of this node: the archive is read again and again";
  if (tier == "partial" && ratio < 0.9)
    return "a larger --cache-size, shardfs warm --files-from, or mkshard --order shuffle:1 and a "
           "sampler that shuffles blocks: the cache holds a part of the archive only";
  return nullptr;
}

Json extent(const std::string& file, const Extent& e) {
  Json json = {{"file", file},
               {"offset", e.offset},
               {"length", e.length},
               {"encoding", e.stored ? "stored" : "zstd"}};
  if (!e.stored) json.update({{"skip", e.skip}, {"decoded", e.decoded}});
  return json;
}

}  // namespace

std::string archive_info_json(const Dataset& dataset) {
  return text(archive_info(dataset, dataset.archive()));
}

std::string mount_info_json(const Served& served) {
  const Sight sight = served.scenes.now();
  Json json = archive_info(served.dataset, *sight->archive);
  if (!sight->is_whole()) json["id"] = "";  // that of a part says nothing
  const char* job = std::getenv("SLURM_JOB_ID");
  json.update({{"directory", served.directory},
               {"subdir", served.subdir},
               {"gpu", served.gpu},
               {"pid", ::getpid()},
               {"job", job == nullptr ? "" : job}});
  return text(json);
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

DaemonFigures daemon_figures(const Served& served) {
  DaemonFigures figures{.read_bytes = served.counters.read_bytes(),
                        .pushed_bytes = served.counters.pushed_bytes(),
                        .hit_bytes = 0,
                        .miss_bytes = served.dataset.store().bytes,
                        .wait_s = served.counters.waited_s()};
  if (const CachedSource* const cache = served.dataset.cache()) {
    const CacheCounters counters = cache->counters();
    figures.hit_bytes = counters.hit_bytes;
    figures.miss_bytes = counters.miss_bytes + counters.direct_bytes;
  }
  return figures;
}

std::string stats_json(const Served& served) {
  const Sight sight = served.scenes.now();
  const ArchiveInfo info = sight->archive->info();
  Json json = head(served.dataset, info);
  json.update({{"uptime_s", seconds_since(served.since)},
               {"files", info.files},
               {"bytes", info.file_bytes}});
  Json kept = storage(served);
  json["tier"] = kept["tier"];
  json["tier_reason"] = served.dataset.tier().reason;
  json.update({{"staged_bytes", kept["staged_bytes"]},
               {"fuse", requests(served.counters)},
               {"daemon", to_json(daemon_figures(served))},
               {"marks", to_json(served.marks.all())},
               {"store", kept["store"]},
               {"cache", kept["cache"]},
               {"failed_requests", served.errors.total()},
               {"errors", errors(served.errors)},
               {"scan", scan(*sight, served.scenes)}});
  json["suggestion"] = suggestion(json);
  return text(json);
}

std::vector<std::string> closing_report(const std::string& stats) {
  const Json json = Json::parse(stats, nullptr, false);
  if (!json.is_object()) return {};
  const Json &daemon = json["daemon"], &store = json["store"];
  const auto mib = [](const Json& bytes) { return bytes.get<double>() / (1 << 20); };
  std::vector<std::string> lines;
  lines.push_back(fmt::format(
      "{} files, {:.1f} MiB of data; tier {} ({})", json["files"].get<std::uint64_t>(),
      mib(json["bytes"]), json["tier"].get<std::string>(), json["tier_reason"].get<std::string>()));
  lines.push_back(fmt::format("shared storage: {} requests, {:.1f} MiB, {} errors",
                              store["requests"].get<std::uint64_t>(), mib(store["bytes"]),
                              store["errors"].get<std::uint64_t>()));
  lines.push_back(fmt::format(
      "reads that the page cache did not answer: {:.1f} MiB, {:.0f} % of the archive's bytes for "
      "them from the cache, {:.1f} s waited",
      mib(daemon["read_bytes"]), daemon["hit_ratio"].get<double>() * 100,
      daemon["wait_s"].get<double>()));
  if (json["suggestion"].is_string())
    lines.push_back("try: " + json["suggestion"].get<std::string>());
  return lines;
}

Result<std::string> extents_json(const std::string& path, const Archive& archive, Entry inode) {
  SHARDFS_TRY(const std::vector<Extent> extents, archive.extents(inode));
  Json json = Json::array();
  for (const Extent& e : extents) json.push_back(extent(path, e));
  return text(json);
}

}  // namespace shardfs
