// Reads batches of files into the memory of one device, or the host's.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "cuda/cufile.h"
#include "cuda/device.h"
#include "cuda/direct_file.h"
#include "cuda/lane.h"
#include "cuda/plan.h"
#include "cuda/route.h"
#include "fs/base/result.h"
#include "fs/dataset/dataset.h"

namespace shardfs {

class BatchReader;

/// What became of one item of a batch.
struct Outcome {
  Route route = Route::Host;  ///< the least good one that a part of it took
  bool verified = false;      ///< every byte was compared with the archive's checksums
  std::optional<Error> error;
};

/// A batch on its way. Any thread.
class Batch {
 public:
  /// Waits until every byte is where it belongs. May be called again.
  void wait();
  /// Waits until every byte has been read, and has `stream` wait for what is still to be copied.
  /// Where that fails, it has waited as wait() does.
  [[nodiscard]] Result<void> wait_in(Stream stream);
  /// One an item. After either wait.
  [[nodiscard]] std::span<const Outcome> outcomes() const { return outcomes_; }
  [[nodiscard]] std::span<const Item> items() const { return items_; }

 private:
  friend class BatchReader;
  Batch() = default;
  void wait_for_readers();

  BatchReader* reader_ = nullptr;
  std::vector<Item> items_;
  Plan plan_;
  bool gaps_are_free_ = false;
  RouteChoice choice_;
  std::shared_ptr<const DirectFile> direct_;
  OfDevice<Event> begin_;

  std::mutex mutex_;
  std::condition_variable done_;
  std::size_t next_ = 0;  ///< task to be taken next; guarded by the reader's mutex
  std::size_t left_ = 0;  ///< tasks that have not ended; guarded by mutex_, like all below
  std::vector<Outcome> outcomes_;
  /// One a reader: after its last copy, or a later one of another batch. Each reader writes its own
  /// before it ends its task.
  std::vector<std::optional<Event>> copied_;
};

/// How batches are read.
struct BatchOptions {
  unsigned readers = 0;             ///< threads; 0: seven for eight CPUs, kMostReaders at most
  std::uint64_t staging = 4 << 20;  ///< bytes of pinned memory a reader uses at a time, of two
  GpuMode mode = GpuMode::Auto;
  bool checked = true;         ///< see RouteFacts
  std::optional<Route> asked;  ///< see RouteFacts
  std::string cufile = kCuFileLibrary;

  /// So many keep the bus of a GPU busy (PCIe 5: 55 GB/s), at some 3 GB/s each of reading and
  /// checking where all of them read.
  static constexpr unsigned kMostReaders = 16;
  /// What may be asked for: 4 GiB of pinned memory.
  static constexpr unsigned kMostAsked = 256;
};

/// Any thread may submit and wait. Threads begin with the first batch; they are not there in a
/// child after fork(), which must open its own.
class BatchReader {
 public:
  /// `device`: null for host memory. `dataset` must outlive it. `cufile`: a stand-in, or null to
  /// have it loaded when it is wanted.
  BatchReader(const Dataset& dataset, std::shared_ptr<Device> device, const BatchOptions& options,
              std::shared_ptr<CuFile> cufile = nullptr);
  /// Batches that were submitted must have been waited for.
  ~BatchReader();
  BatchReader(const BatchReader&) = delete;
  BatchReader& operator=(const BatchReader&) = delete;

  /// Begins to read. The items' memory must stay until the batch has been waited for; on a device
  /// it is written to after what `after` holds now. `gaps_are_free`: see PlanLimits. Invalid: not
  /// memory of the device. Unsupported: after fork().
  [[nodiscard]] Result<std::shared_ptr<Batch>> submit(std::vector<Item> items, bool gaps_are_free,
                                                      std::optional<Stream> after);

  /// How the next batch will be read, and why.
  [[nodiscard]] Result<RouteChoice> route();
  [[nodiscard]] const std::shared_ptr<Device>& device() const { return device_; }

 private:
  friend class Batch;
  /// What direct reads need, once it has been tried.
  struct Direct {
    std::shared_ptr<CuFile> cufile;
    std::shared_ptr<const DirectFile> file;
    std::string why_no_cufile, why_no_file;
    std::chrono::steady_clock::time_point not_before;  ///< it is tried again
    bool nvidia_fs = false;
  };

  void look_for_direct();
  [[nodiscard]] Result<RouteChoice> choose_route();
  [[nodiscard]] Result<void> try_direct();
  [[nodiscard]] Result<void> check_memory(std::span<const Item> items) const;
  [[nodiscard]] Result<void> start();
  [[nodiscard]] Result<void> open_lane(std::unique_ptr<Lane>& lane);
  void work(unsigned number);
  void run(Batch& batch, std::size_t task, unsigned number, Lane* lane);
  void read_to_host(Batch& batch, const Task& task);
  static void fail_task(Batch& batch, std::size_t number, const Error& error);
  static void settle(Batch& batch, std::uint32_t item, PartOutcome outcome);
  static void end_task(Batch& batch);

  const Dataset& dataset_;
  const bool has_checksums_;
  const std::shared_ptr<Device> device_;
  const BatchOptions options_;
  const unsigned readers_;
  const int pid_;

  std::mutex direct_mutex_;
  Direct direct_;            ///< guarded by direct_mutex_
  std::string last_reason_;  ///< likewise: what was logged

  std::mutex mutex_;
  std::condition_variable wanted_;
  std::deque<std::shared_ptr<Batch>> queue_;  ///< with tasks to be taken; guarded by mutex_
  bool ending_ = false;                       ///< guarded by mutex_
  std::vector<std::thread> threads_;          ///< guarded by mutex_ until ending_
};

}  // namespace shardfs
