#include "tools/shardfs/mount_place.h"

#include <cerrno>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/mount/report.h"
#include "tools/shardfs/mounts.h"

namespace shardfs {
namespace {

Error occupied(const std::string& directory, std::string_view what) {
  return {ErrorKind::Unsupported, EBUSY,
          fmt::format("{}: {}; try: shardfs umount {}", directory, what, directory)};
}

}  // namespace

Result<void> check_directory(const std::string& directory) {
  struct stat found = {};
  if (::stat(directory.c_str(), &found) != 0)
    return fail_errno(errno, directory, "cannot mount there");
  const auto wrong = [&](std::string_view what) {
    return fail(ErrorKind::Invalid,
                fmt::format("{}: {}; try: an empty directory of your own", directory, what));
  };
  if (!S_ISDIR(found.st_mode)) return wrong("not a directory");
  if (::geteuid() != 0 && found.st_uid != ::geteuid()) return wrong("belongs to somebody else");
  std::error_code failed;
  const bool empty = std::filesystem::is_empty(directory, failed);
  if (failed) return fail_errno(failed.value(), directory, "cannot read");
  if (!empty) return wrong("not empty");
  return {};
}

Result<bool> is_mounted(const Dataset& dataset, const Archive* archive,
                        const MountOptions& options) {
  SHARDFS_TRY(const auto there, mount_at(options.directory));
  if (!there || !there->is_shardfs()) return false;
  const auto info = read_report(options.directory, kInfoXattr);
  if (!info) {
    const int err = info.error().sys_errno;
    const bool dead = err == ENOTCONN || err == ECONNABORTED;  // aborted: it died while being asked
    return std::unexpected(
        occupied(options.directory, dead ? "a mount whose process has died is there"
                                         : "a mount that does not answer is there"));
  }
  const std::string id = info->value("id", "");  // "" of one that is still scanned
  const bool same_id = archive == nullptr || id.empty() || id == archive->info().id;
  const bool same =
      same_id && info->value("subdir", "") == options.subdir && there->source == dataset.path();
  if (!same)
    return std::unexpected(occupied(options.directory, there->source + " is mounted there"));
  return true;
}

}  // namespace shardfs
