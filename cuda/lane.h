// What one reader of a batch has of the device: a stream, and staging memory used in turns.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "cuda/cufile.h"
#include "cuda/device.h"
#include "cuda/direct_file.h"
#include "cuda/plan.h"
#include "cuda/route.h"
#include "fs/archive/archive.h"
#include "fs/base/result.h"

namespace shardfs {

/// What became of a part of a file.
struct PartOutcome {
  Route route = Route::Host;
  bool checked = false;  ///< its bytes were compared with the archive's checksums
  std::optional<Error> error;
};

/// While a task is being copied from one half of the pinned memory the next one is read into the
/// other. One thread at a time.
class Lane {
 public:
  /// `staging`: bytes of each half.
  [[nodiscard]] static Result<std::unique_ptr<Lane>> open(Device& device, std::uint64_t staging);
  /// Waits for what is on its way.
  ~Lane();
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  struct Job {
    const Archive* archive = nullptr;
    std::span<const Item> items;
    std::span<const Part> parts;         ///< of one task
    const DirectFile* direct = nullptr;  ///< where large stored files are read by cuFile
    CuFile* cufile = nullptr;            ///< likewise; of all jobs the same, and outlives the lane
    Route direct_route = Route::GdsCompat;
    bool has_checksums = false;  ///< of the archive's own
    bool gaps_are_free = false;  ///< see PlanLimits
    std::optional<Event> after;  ///< the destinations are free from then on
  };
  /// Reads the parts and queues their way to the device. `done` is told of each part, by its number
  /// in the job. Gives the event after which those without an error are in place; it lives as long
  /// as the lane, and is set anew for later jobs.
  std::optional<Event> run(const Job& job,
                           const std::function<void(std::size_t, PartOutcome)>& done);

  /// A file of which less is wanted is read by the CPU, bytes: one request to a disk takes as long
  /// as some copies.
  static constexpr std::uint64_t kLeastDirect = 64 * 1024;

 private:
  /// One of the halves.
  struct Slot {
    OfDevice<PinnedMemory> pinned;  ///< staging bytes, then a table of Moves
    OfDevice<DeviceMemory> device;  ///< the same; made when needed
    OfDevice<DeviceMemory> direct;  ///< for direct reads; made when needed
    bool refused = false;           ///< cuFile does not take the latter
    OfDevice<Event> free;           ///< when it has been read
  };

  Lane(Device& device, std::uint64_t staging) : device_(&device), staging_(staging) {}

  [[nodiscard]] std::uint64_t table_at() const { return staging_; }
  [[nodiscard]] std::uint64_t direct_bytes() const;
  [[nodiscard]] Result<void> make_device_memory(Slot& slot);
  [[nodiscard]] bool make_direct_memory(const Job& job, Slot& slot);
  /// Reads by cuFile what can be; true for a part that is in the slot's memory for that, and `move`
  /// says where. `used` counts bytes of it.
  [[nodiscard]] bool read_direct(const Job& job, Slot& slot, const Part& part, std::uint64_t& used,
                                 Move& move);
  [[nodiscard]] Result<void> send(const Job& job, Slot& slot, std::span<const Move> staged,
                                  std::span<const Move> direct);
  [[nodiscard]] static std::vector<Move> runs_of(const Job& job, Slot& slot,
                                                 std::span<const Move> staged);
  [[nodiscard]] Result<void> copy(const Slot& slot, std::span<const Move> runs);
  [[nodiscard]] Result<void> scatter(Slot& slot, std::span<const Move> staged,
                                     std::span<const Move> direct);

  Device* device_;
  const std::uint64_t staging_;
  CuFile* cufile_ = nullptr;  ///< that the slots' memory is registered with
  OfDevice<Stream> stream_;
  std::array<Slot, 2> slots_;
  unsigned next_ = 0;
};

}  // namespace shardfs
