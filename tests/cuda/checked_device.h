// A device without a GPU: host memory behind the same interface, that enforces CUDA's rules and
// does what it is asked for as late, and in as odd an order, as they allow.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "cuda/cufile.h"
#include "cuda/device.h"
#include "fs/base/bytes.h"
#include "fs/base/result.h"

namespace shardfs::testing {

/// What is against the rules fails, and is kept in violations() as well. Any thread.
class CheckedDevice final : public Device {
 public:
  explicit CheckedDevice(unsigned seed);
  ~CheckedDevice() override;

  [[nodiscard]] const DeviceFacts& facts() const override { return facts_; }
  [[nodiscard]] Result<DeviceMemory> allocate(std::size_t bytes) override;
  void release(DeviceMemory memory) override;
  [[nodiscard]] Result<PinnedMemory> allocate_pinned(std::size_t bytes) override;
  void release(PinnedMemory memory) override;
  [[nodiscard]] Result<Stream> create_stream() override;
  void release(Stream stream) override;
  [[nodiscard]] Result<Event> create_event() override;
  void release(Event event) override;
  [[nodiscard]] Result<Allocation> allocation_of(DeviceAddress address) override;
  [[nodiscard]] bool is_mapped(DeviceAddress address) override;
  [[nodiscard]] Result<void> copy(Stream stream, DeviceAddress to, const std::byte* from,
                                  std::size_t bytes) override;
  [[nodiscard]] Result<void> scatter(Stream stream, DeviceAddress table,
                                     std::uint32_t count) override;
  [[nodiscard]] Result<void> record(Event event, Stream stream) override;
  [[nodiscard]] Result<void> wait_in(Stream stream, Event event) override;
  [[nodiscard]] Result<void> wait(Event event) override;

  /// Device memory as it is now. Invalid: something that was queued is still to write there.
  [[nodiscard]] Result<Bytes> read_back(DeviceAddress address, std::size_t bytes);
  /// Fills device memory at once, as a program's own kernel would in `stream`.
  void fill_in(Stream stream, DeviceAddress address, std::byte value, std::size_t bytes);
  /// As the bus does, for cuFile's stand-in. Invalid: not in one allocation, or in use.
  [[nodiscard]] Result<void> write(DeviceAddress address, ByteSpan bytes);

  /// Memory of the device that was mapped in pieces of so many bytes, side by side.
  [[nodiscard]] DeviceMemory allocate_in_pieces(std::size_t bytes, std::size_t piece);

  /// What can be made to fail.
  enum class Call : std::uint8_t {
    Allocate,
    Pin,
    Stream,
    Event,
    Copy,
    Scatter,
    Record,
    WaitIn,
    Wait
  };
  static constexpr unsigned kCalls = 9;
  /// Makes the next call of a kind fail.
  void fail_next(Call call) { fails_[static_cast<unsigned>(call)] = true; }
  /// There was no such call, or nobody cares any more.
  void stop_failing() {
    for (auto& fails : fails_) fails = false;
  }

  /// As a device that is older than the kernels; before it is used.
  void be_old() { facts_.has_kernels = false; }

  [[nodiscard]] std::vector<std::string> violations() const;
  /// Allocations, streams and events that are still there.
  [[nodiscard]] std::size_t left() const;
  /// Calls of copy() and scatter() so far.
  [[nodiscard]] std::size_t copies() const { return copies_; }
  [[nodiscard]] std::size_t scatters() const { return scatters_; }

 private:
  struct Operation {
    enum class Kind : std::uint8_t { Copy, Scatter, Fill, Record, Wait } kind = Kind::Copy;
    DeviceAddress to = 0, table = 0;
    const std::byte* from = nullptr;
    std::size_t bytes = 0;
    std::uint32_t count = 0;
    std::byte value{};
    int event = 0;
    std::uint64_t generation = 0;  ///< of the event
  };
  // Streams and events stay when they are released: what was queued still happens.
  struct QueueOf {
    std::deque<Operation> operations;
    bool released = false;
  };
  struct EventState {
    std::uint64_t recorded = 0;  ///< how often it was set
    std::uint64_t happened = 0;  ///< the last of them that has come to pass
    bool released = false;
  };

  [[nodiscard]] bool fails(Call call) {
    return fails_[static_cast<unsigned>(call)].exchange(false);
  }

  [[nodiscard]] std::unexpected<Error> against_the_rules(std::string what);
  [[nodiscard]] std::byte* device_bytes(DeviceAddress address, std::size_t bytes);
  [[nodiscard]] bool is_pinned(const std::byte* from, std::size_t bytes) const;
  [[nodiscard]] bool is_awaited(DeviceAddress address, std::size_t bytes);
  [[nodiscard]] Bytes table_of(const QueueOf& queue, const Operation& scatter);
  void run_some();
  [[nodiscard]] bool run_one();
  void execute(const Operation& operation);
  [[nodiscard]] static int number(const void* handle);

  DeviceFacts facts_{"checked", 0, 9, 0};
  mutable std::mutex mutex_;
  std::mt19937 random_;
  std::map<DeviceAddress, Bytes> memory_;
  std::map<DeviceAddress, std::size_t> pieces_;  ///< of those of memory_ that have such
  std::map<const std::byte*, std::unique_ptr<Bytes>> pinned_;
  std::map<int, QueueOf> streams_;
  std::map<int, EventState> events_;
  DeviceAddress next_address_ = DeviceAddress{0x7000} << 32;
  int next_ = 1;
  std::vector<std::string> violations_;
  std::array<std::atomic<bool>, kCalls> fails_{};
  std::size_t copies_ = 0, scatters_ = 0;
};

/// cuFile without nvidia-fs: reads the file and writes to a CheckedDevice.
class CheckedCuFile final : public CuFile {
 public:
  explicit CheckedCuFile(std::shared_ptr<CheckedDevice> device) : device_(std::move(device)) {}

  [[nodiscard]] Result<CuFileHandle> register_file(int fd) override;
  void release(CuFileHandle file) override;
  [[nodiscard]] Result<void> register_buffer(DeviceAddress base, std::size_t bytes) override;
  void release_buffer(DeviceAddress base) override;
  [[nodiscard]] Result<std::size_t> read(CuFileHandle file, DeviceAddress base, std::size_t bytes,
                                         std::uint64_t offset, std::uint64_t at) override;
  [[nodiscard]] std::uint64_t nvidia_fs_reads() const override {
    return served_ ? reads_.load() : 0;
  }

  enum class Failure : std::uint8_t {
    None,
    FileRefused,     ///< an unsupported file system
    BufferRefused,   ///< every buffer but the first: that of the trial read
    ShortReads,      ///< a page at a time
    InternalErrors,  ///< 5030, from the second read on
    EndsEarly,       ///< nothing comes, from the second read on
  };
  void fail_with(Failure failure) { failure_ = failure; }
  void be_served(bool served) { served_ = served; }

  [[nodiscard]] std::size_t reads() const { return reads_; }
  [[nodiscard]] std::vector<std::string> violations() const;
  /// Files and buffers that are still registered.
  [[nodiscard]] std::size_t left() const;
  /// Descriptors that were registered: their names in /proc/self/fd.
  [[nodiscard]] std::vector<std::string> files() const;

 private:
  [[nodiscard]] std::unexpected<Error> against_the_rules(std::string what);

  std::shared_ptr<CheckedDevice> device_;
  mutable std::mutex mutex_;
  std::map<int, int> handles_;  ///< to descriptors
  std::map<DeviceAddress, std::size_t> buffers_;
  int next_ = 1;
  std::size_t registered_ = 0;
  Failure failure_ = Failure::None;
  std::atomic<bool> served_ = false;
  std::atomic<std::size_t> reads_ = 0;
  std::vector<std::string> violations_, files_;
};

}  // namespace shardfs::testing
