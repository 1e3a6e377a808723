// An archive opened for reading in batches, to as many devices as are asked for.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "cuda/batch_reader.h"
#include "cuda/device.h"
#include "fs/base/result.h"
#include "fs/dataset/dataset.h"
#include "fs/tree/tree.h"

namespace shardfs {

/// Gives device `ordinal`: open_cuda_device, or a stand-in.
using DeviceOpener = std::function<Result<std::shared_ptr<Device>>(int ordinal)>;

/// A data set and its readers. Any thread.
class Batches {
 public:
  /// `path`: of the archive, or of a directory that it is mounted at; then what is cached there,
  /// and how, goes for these reads too, and paths are relative to that directory. Errors as
  /// Dataset::open; Unsupported: a device is required, and there is none.
  [[nodiscard]] static Result<std::unique_ptr<Batches>> open(
      const std::string& path, const CacheSettings& settings, const BatchOptions& options,
      const DeviceOpener& opener = open_cuda_device, std::shared_ptr<CuFile> cufile = nullptr);

  [[nodiscard]] const Dataset& dataset() const { return *dataset_; }
  /// Where a path was found: the next one of a batch is often beside it, and found in less time.
  struct Directory {
    std::string path;
    std::optional<Entry> entry;
  };
  /// The inode behind a path, as resolve() finds it. Errors name the path.
  [[nodiscard]] Result<Entry> inode(std::string_view path) const;
  /// Likewise of a regular file; Invalid: it is none.
  [[nodiscard]] Result<Entry> file(std::string_view path, Directory* directory = nullptr) const;
  /// A part of it, at most up to its end, to be read to `to`.
  [[nodiscard]] Result<Item> item(std::string_view path, std::uint64_t offset, std::uint64_t length,
                                  DeviceAddress to, Directory* directory = nullptr) const;

  /// Calls visit(path, size) for every regular file below `path`, in the order of the tree, until
  /// it returns false.
  [[nodiscard]] Result<void> visit_files(
      const std::string& path,
      const std::function<bool(const std::string& path, std::uint64_t size)>& visit) const;

  /// The reader that reads to `device`, or kHost. Unsupported, with the reason: there is no such
  /// device.
  [[nodiscard]] Result<BatchReader*> to(int device);
  static constexpr int kHost = -1;

 private:
  Batches() = default;

  std::unique_ptr<Dataset> dataset_;
  std::string root_;  ///< path of the directory that is mounted; "" for the whole tree
  BatchOptions options_;
  DeviceOpener opener_;
  std::shared_ptr<CuFile> cufile_;
  std::mutex mutex_;
  std::map<int, std::unique_ptr<BatchReader>> readers_;  ///< guarded by mutex_
};

}  // namespace shardfs
