#include "cuda/batches.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <iterator>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <sys/xattr.h>

namespace shardfs {
namespace {

/// A mount's own word about itself; see fs/mount/report.h.
Result<nlohmann::json> report(const std::string& directory, const char* xattr) {
  std::array<char, 64 * 1024> text{};
  const ssize_t length = ::getxattr(directory.c_str(), xattr, text.data(), text.size());
  if (length < 0)
    return fail(ErrorKind::Unsupported,
                directory + ": neither an archive nor a directory one is mounted at");
  auto json = nlohmann::json::parse(text.data(), text.data() + length, nullptr, false);
  if (!json.is_object()) return corrupt(directory + ": its mount tells nonsense of itself");
  return json;
}

std::string text(const nlohmann::json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_string() ? found->get<std::string>() : "";
}

/// What a mount tells: its archive, the directory in it that is shown, and where it is cached.
struct Mounted {
  std::string archive, subdir;
  std::string gpu;
  CacheSettings settings;
};

Result<Mounted> look_at_mount(const std::string& directory, CacheSettings settings) {
  SHARDFS_TRY(const auto info, report(directory, "user.shardfs.info"));
  SHARDFS_TRY(const auto stats, report(directory, "user.shardfs.stats"));
  Mounted mounted{text(info, "archive"), text(info, "subdir"), text(info, "gpu"),
                  std::move(settings)};
  for (const Tier tier : {Tier::None, Tier::Memory, Tier::Disk, Tier::Partial}) {
    if (text(stats, "tier") == name(tier)) mounted.settings.tier = tier;
  }
  const auto cache = stats.find("cache");
  if (cache != stats.end() && cache->is_object() && !text(*cache, "dir").empty())
    mounted.settings.directory = std::filesystem::path(text(*cache, "dir")).parent_path().string();
  return mounted;
}

Error about(std::string_view path, Error error) {
  error.message = fmt::format("{}: {}", path, error.message);
  return error;
}

}  // namespace

Result<std::unique_ptr<Batches>> Batches::open(const std::string& path,
                                               const CacheSettings& settings,
                                               const BatchOptions& options,
                                               const DeviceOpener& opener,
                                               std::shared_ptr<CuFile> cufile) {
  std::unique_ptr<Batches> batches(new Batches());
  batches->options_ = options;
  GpuMode& mode = batches->options_.mode;
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) return fail_errno(errno, path, "cannot be opened");
  if (S_ISDIR(st.st_mode)) {
    SHARDFS_TRY(const Mounted mounted, look_at_mount(path, settings));
    SHARDFS_TRY(batches->dataset_, Dataset::open(mounted.archive, mounted.settings));
    batches->root_ = mounted.subdir;
    // What is asked for here goes first.
    if (const auto told = gpu_mode_of(mounted.gpu); told && mode == GpuMode::Auto) mode = *told;
  } else {
    SHARDFS_TRY(batches->dataset_, Dataset::open(path, settings));
  }
  batches->opener_ = opener;
  batches->cufile_ = std::move(cufile);
  if (mode == GpuMode::Require) {
    if (auto device = opener(0); !device)
      return std::unexpected(about(path, std::move(device).error()));
  }
  return batches;
}

Result<Entry> Batches::inode(std::string_view path) const {
  const Tree& tree = dataset_->tree();
  const std::string whole = root_.empty() ? std::string(path) : fmt::format("{}/{}", root_, path);
  auto entry = tree.resolve(whole);
  if (entry) entry = tree.inode(*entry);
  if (!entry) return std::unexpected(about(path, std::move(entry).error()));
  return entry;
}

Result<Entry> Batches::file(std::string_view path, Directory* directory) const {
  const Tree& tree = dataset_->tree();
  std::optional<Entry> entry;
  const std::size_t slash = path.rfind('/');
  if (directory != nullptr && slash != std::string_view::npos) {
    if (!directory->entry || directory->path != path.substr(0, slash)) {
      const auto found = inode(path.substr(0, slash));
      directory->path = path.substr(0, slash);
      directory->entry = found ? std::optional(*found) : std::nullopt;
    }
    if (directory->entry) {
      const auto found = tree.lookup(*directory->entry, path.substr(slash + 1));
      if (found) entry = *found;
    }
  }
  // A size of 0 may be that of a link; of those, and of what was not found, resolve() knows more.
  if (!entry || tree.file_size(*entry) == 0) {
    SHARDFS_TRY(entry, inode(path));
    SHARDFS_TRY(const Attributes attributes, tree.attributes(*entry));
    if (!S_ISREG(attributes.mode))
      return fail(ErrorKind::Invalid, fmt::format("{}: not a regular file", path));
  }
  return *entry;
}

Result<Item> Batches::item(std::string_view path, std::uint64_t offset, std::uint64_t length,
                           DeviceAddress to, Directory* directory) const {
  SHARDFS_TRY(const Entry entry, file(path, directory));
  const std::uint64_t size = dataset_->tree().file_size(entry);
  SHARDFS_TRY(const std::uint64_t position, dataset_->tree().position(entry));
  return Item{entry, offset, offset < size ? std::min(length, size - offset) : 0, position, to};
}

Result<void> Batches::visit_files(
    const std::string& path,
    const std::function<bool(const std::string& path, std::uint64_t size)>& visit) const {
  const Tree& tree = dataset_->tree();
  SHARDFS_TRY(const Entry top, inode(path));
  const std::string begin = path.substr(0, path.find_last_not_of('/') + 1);
  // Directories still to be listed, the next one last: a tree may be deeper than a stack.
  std::vector<std::pair<Entry, std::string>> directories{{top, begin}};
  while (!directories.empty()) {
    const Entry directory = directories.back().first;
    const std::string at = std::move(directories.back().second);
    directories.pop_back();
    std::vector<std::pair<Entry, std::string>> below;
    bool goes_on = true;
    Result<void> looked_at = {};
    SHARDFS_CHECK(tree.children(directory, 0, [&](Entry child, std::string_view name) {
      const auto attributes = tree.attributes(child);
      if (!attributes) {
        looked_at = std::unexpected(attributes.error());
        return false;
      }
      std::string whole = at.empty() ? std::string(name) : fmt::format("{}/{}", at, name);
      if (S_ISDIR(attributes->mode)) {
        below.emplace_back(child, std::move(whole));
      } else if (S_ISREG(attributes->mode)) {
        goes_on = visit(whole, attributes->size);
      }
      return goes_on;
    }));
    SHARDFS_CHECK(looked_at);
    if (!goes_on) return {};
    directories.insert(directories.end(), std::make_move_iterator(below.rbegin()),
                       std::make_move_iterator(below.rend()));
  }
  return {};
}

Result<BatchReader*> Batches::to(int device) {
  const std::lock_guard lock(mutex_);
  const auto found = readers_.find(device);
  if (found != readers_.end()) return found->second.get();
  std::shared_ptr<Device> opened;
  if (device != kHost) {
    RouteFacts facts;
    facts.mode = options_.mode;
    // Where it is off no driver is looked for.
    if (options_.mode != GpuMode::Off) {
      auto found_device = opener_(device);
      if (found_device) {
        opened = *std::move(found_device);
      } else {
        facts.why_no_device = found_device.error().message;
      }
    }
    if (const auto choice = choose(facts); !choice)
      return std::unexpected(about(dataset_->path(), choice.error()));
  }
  auto reader = std::make_unique<BatchReader>(*dataset_, std::move(opened), options_, cufile_);
  return readers_.emplace(device, std::move(reader)).first->second.get();
}

}  // namespace shardfs
