#include "fs/dataset/hot_list.h"

#include <cerrno>
#include <cstdio>
#include <fstream>

#include <fmt/format.h>
#include <unistd.h>

namespace shardfs {

namespace {

constexpr const char* kMagic = "shardfs-hot-list";
constexpr int kVersion = 1;
/// An archive of 40 TB has so many units.
constexpr std::size_t kMostUnits = 10'000'000;

}  // namespace

Result<void> save_hot_list(const std::string& path, const HotList& list) {
  const std::string temporary = fmt::format("{}.tmp-{}", path, ::getpid());
  {
    std::ofstream file(temporary, std::ios::trunc);
    file << kMagic << ' ' << kVersion << ' ' << list.archive_id << '\n';
    for (const Unit unit : list.units) file << unit << '\n';
    file.flush();
    if (!file) {
      const int err = errno;
      ::unlink(temporary.c_str());
      return fail_errno(err == 0 ? EIO : err, temporary, "cannot write the hot list");
    }
  }
  if (std::rename(temporary.c_str(), path.c_str()) != 0) {
    const int err = errno;
    ::unlink(temporary.c_str());
    return fail_errno(err, path, "cannot replace the hot list");
  }
  return {};
}

Result<HotList> load_hot_list(const std::string& path) {
  std::ifstream file(path);
  if (!file) return fail_errno(errno, path, "cannot open the hot list");
  std::string magic;
  int version = 0;
  HotList list;
  if (!(file >> magic >> version >> list.archive_id) || magic != kMagic || version != kVersion)
    return fail(ErrorKind::Invalid, path + ": no hot list; try: another name");
  for (Unit unit = 0; list.units.size() < kMostUnits && file >> unit;) list.units.push_back(unit);
  return list;
}

}  // namespace shardfs
