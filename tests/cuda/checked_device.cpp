#include "tests/cuda/checked_device.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace shardfs::testing {

namespace {

constexpr std::byte kFresh{0xcd};
/// Far enough apart that what runs over one allocation is in none.
constexpr std::uint64_t kApart = 1 << 20;

void* handle_of(int number) { return std::bit_cast<void*>(static_cast<std::intptr_t>(number)); }

}  // namespace

CheckedDevice::CheckedDevice(unsigned seed) : random_(seed) {}
CheckedDevice::~CheckedDevice() = default;

int CheckedDevice::number(const void* handle) {
  return static_cast<int>(std::bit_cast<std::intptr_t>(handle));
}

std::unexpected<Error> CheckedDevice::against_the_rules(std::string what) {
  violations_.push_back(what);
  return fail(ErrorKind::Invalid, std::move(what));
}

std::vector<std::string> CheckedDevice::violations() const {
  const std::lock_guard lock(mutex_);
  return violations_;
}

std::size_t CheckedDevice::left() const {
  const std::lock_guard lock(mutex_);
  const auto there = [](const auto& entry) { return !entry.second.released; };
  return memory_.size() + pinned_.size() +
         static_cast<std::size_t>(std::ranges::count_if(streams_, there) +
                                  std::ranges::count_if(events_, there));
}

std::byte* CheckedDevice::device_bytes(DeviceAddress address, std::size_t bytes) {
  auto after = memory_.upper_bound(address);
  if (after == memory_.begin()) return nullptr;
  auto& [base, memory] = *--after;
  if (address - base > memory.size() || bytes > memory.size() - (address - base)) return nullptr;
  return memory.data() + (address - base);
}

bool CheckedDevice::is_pinned(const std::byte* from, std::size_t bytes) const {
  auto after = pinned_.upper_bound(from);
  if (after == pinned_.begin()) return false;
  const auto& [base, memory] = *--after;
  return static_cast<std::size_t>(from - base) + bytes <= memory->size();
}

Result<DeviceMemory> CheckedDevice::allocate(std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  if (fails(Call::Allocate)) return fail(ErrorKind::NoSpace, "out of device memory");
  const DeviceAddress address = next_address_;
  next_address_ += round_up(bytes, 4096) + kApart;
  memory_.emplace(address, Bytes(bytes, kFresh));
  return DeviceMemory{address};
}

DeviceMemory CheckedDevice::allocate_in_pieces(std::size_t bytes, std::size_t piece) {
  const auto memory = allocate(bytes);
  const std::lock_guard lock(mutex_);
  pieces_.emplace(memory->address, piece);
  return *memory;
}

void CheckedDevice::release(DeviceMemory memory) {
  const std::lock_guard lock(mutex_);
  while (run_one()) {
  }
  pieces_.erase(memory.address);
  if (memory_.erase(memory.address) == 0) violations_.emplace_back("released what was not there");
}

Result<PinnedMemory> CheckedDevice::allocate_pinned(std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  if (fails(Call::Pin)) return fail(ErrorKind::Unsupported, "failed on purpose");
  auto memory = std::make_unique<Bytes>(bytes, kFresh);
  std::byte* const data = memory->data();
  pinned_.emplace(data, std::move(memory));
  return PinnedMemory{data};
}

void CheckedDevice::release(PinnedMemory memory) {
  const std::lock_guard lock(mutex_);
  while (run_one()) {
  }
  if (pinned_.erase(memory.data) == 0) violations_.emplace_back("released what was not pinned");
}

Result<Stream> CheckedDevice::create_stream() {
  const std::lock_guard lock(mutex_);
  if (fails(Call::Stream)) return fail(ErrorKind::Unsupported, "failed on purpose");
  streams_[next_];
  return Stream{handle_of(next_++)};
}

void CheckedDevice::release(Stream stream) {
  const std::lock_guard lock(mutex_);
  const auto found = streams_.find(number(stream.handle));
  if (found == streams_.end() || std::exchange(found->second.released, true))
    violations_.emplace_back("no such stream");
}

Result<Event> CheckedDevice::create_event() {
  const std::lock_guard lock(mutex_);
  if (fails(Call::Event)) return fail(ErrorKind::Unsupported, "failed on purpose");
  events_[next_];
  return Event{handle_of(next_++)};
}

void CheckedDevice::release(Event event) {
  const std::lock_guard lock(mutex_);
  const auto found = events_.find(number(event.handle));
  if (found == events_.end() || std::exchange(found->second.released, true))
    violations_.emplace_back("no such event");
}

Result<Allocation> CheckedDevice::allocation_of(DeviceAddress address) {
  const std::lock_guard lock(mutex_);
  auto after = memory_.upper_bound(address);
  if (after == memory_.begin() ||
      address - std::prev(after)->first >= std::prev(after)->second.size())
    return fail(ErrorKind::Invalid, "not memory of the device");
  const auto& [begin, memory] = *std::prev(after);
  const auto pieces = pieces_.find(begin);
  if (pieces == pieces_.end()) return Allocation{begin, memory.size()};
  const std::uint64_t before = (address - begin) / pieces->second * pieces->second;
  return Allocation{begin + before, std::min(pieces->second, memory.size() - before)};
}

bool CheckedDevice::is_mapped(DeviceAddress address) {
  const std::lock_guard lock(mutex_);
  const auto after = memory_.upper_bound(address);
  return after != memory_.begin() && pieces_.contains(std::prev(after)->first);
}

Result<void> CheckedDevice::copy(Stream stream, DeviceAddress to, const std::byte* from,
                                 std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  ++copies_;
  if (fails(Call::Copy)) return fail(ErrorKind::Unsupported, "failed on purpose");
  if (!is_pinned(from, bytes)) return against_the_rules("a copy from memory that is not pinned");
  if (device_bytes(to, bytes) == nullptr)
    return against_the_rules("a copy to outside an allocation");
  Operation operation;
  operation.kind = Operation::Kind::Copy;
  operation.to = to;
  operation.from = from;
  operation.bytes = bytes;
  streams_.at(number(stream.handle)).operations.push_back(operation);
  run_some();
  return {};
}

Result<void> CheckedDevice::scatter(Stream stream, DeviceAddress table, std::uint32_t count) {
  const std::lock_guard lock(mutex_);
  ++scatters_;
  if (fails(Call::Scatter)) return fail(ErrorKind::Unsupported, "failed on purpose");
  if (!facts_.has_kernels) return against_the_rules("a kernel that is not there");
  if (device_bytes(table, count * sizeof(Move)) == nullptr)
    return against_the_rules("a table outside an allocation");
  Operation operation;
  operation.kind = Operation::Kind::Scatter;
  operation.table = table;
  operation.count = count;
  streams_.at(number(stream.handle)).operations.push_back(operation);
  run_some();
  return {};
}

void CheckedDevice::fill_in(Stream stream, DeviceAddress address, std::byte value,
                            std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  Operation operation;
  operation.kind = Operation::Kind::Fill;
  operation.to = address;
  operation.value = value;
  operation.bytes = bytes;
  streams_.at(number(stream.handle)).operations.push_back(operation);
}

Result<void> CheckedDevice::record(Event event, Stream stream) {
  const std::lock_guard lock(mutex_);
  if (fails(Call::Record)) return fail(ErrorKind::Unsupported, "failed on purpose");
  Operation operation;
  operation.kind = Operation::Kind::Record;
  operation.event = number(event.handle);
  operation.generation = ++events_.at(operation.event).recorded;
  streams_.at(number(stream.handle)).operations.push_back(operation);
  run_some();
  return {};
}

Result<void> CheckedDevice::wait_in(Stream stream, Event event) {
  const std::lock_guard lock(mutex_);
  if (fails(Call::WaitIn)) return fail(ErrorKind::Unsupported, "failed on purpose");
  Operation operation;
  operation.kind = Operation::Kind::Wait;
  operation.event = number(event.handle);
  operation.generation = events_.at(operation.event).recorded;
  streams_.at(number(stream.handle)).operations.push_back(operation);
  return {};
}

Result<void> CheckedDevice::wait(Event event) {
  const std::lock_guard lock(mutex_);
  EventState& state = events_.at(number(event.handle));
  const std::uint64_t until = state.recorded;
  while (state.happened < until) {
    if (!run_one()) return against_the_rules("an event that never happens");
  }
  if (fails(Call::Wait)) return fail(ErrorKind::Unsupported, "failed on purpose");
  return {};
}

/// Does something of what is queued, or nothing.
void CheckedDevice::run_some() {
  for (unsigned i = random_() % 3; i > 0; --i) static_cast<void>(run_one());
}

/// The next operation of any stream that need not wait; false if there is none.
bool CheckedDevice::run_one() {
  std::vector<QueueOf*> ready;
  for (auto& [number, queue] : streams_) {
    if (queue.operations.empty()) continue;
    const Operation& next = queue.operations.front();
    const auto event = events_.find(next.event);
    const bool waits = next.kind == Operation::Kind::Wait && event != events_.end() &&
                       event->second.happened < next.generation;
    if (!waits) ready.push_back(&queue);
  }
  if (ready.empty()) return false;
  QueueOf& queue = *ready[random_() % ready.size()];
  const Operation operation = queue.operations.front();
  queue.operations.pop_front();
  execute(operation);
  return true;
}

void CheckedDevice::execute(const Operation& operation) {
  switch (operation.kind) {
    case Operation::Kind::Copy: {
      std::byte* const to = device_bytes(operation.to, operation.bytes);
      if (to == nullptr || !is_pinned(operation.from, operation.bytes)) {
        violations_.emplace_back("a copy whose memory has gone");
      } else {
        std::memcpy(to, operation.from, operation.bytes);
      }
      return;
    }
    case Operation::Kind::Fill: {
      std::byte* const to = device_bytes(operation.to, operation.bytes);
      if (to != nullptr) std::fill_n(to, operation.bytes, operation.value);
      return;
    }
    case Operation::Kind::Scatter: {
      const std::byte* const table = device_bytes(operation.table, operation.count * sizeof(Move));
      for (std::uint32_t i = 0; i < operation.count; ++i) {
        Move move;
        if (table != nullptr) std::memcpy(&move, table + i * sizeof move, sizeof move);
        const std::byte* const from = device_bytes(move.from, move.length);
        std::byte* const to = device_bytes(move.to, move.length);
        if (from == nullptr || to == nullptr) {
          violations_.emplace_back("a kernel that leaves its memory");
        } else {
          std::memcpy(to, from, move.length);
        }
      }
      return;
    }
    case Operation::Kind::Record:
      events_[operation.event].happened = operation.generation;
      return;
    case Operation::Kind::Wait:
      return;
  }
}

/// The table of a scatter that is still queued: it may be queued itself, in front of it.
Bytes CheckedDevice::table_of(const QueueOf& queue, const Operation& scatter) {
  const std::size_t bytes = scatter.count * sizeof(Move);
  const std::byte* from = device_bytes(scatter.table, bytes);
  for (const Operation& operation : queue.operations) {
    if (&operation == &scatter) break;
    if (operation.kind == Operation::Kind::Copy && operation.to == scatter.table)
      from = operation.from;
  }
  return Bytes(from, from + bytes);
}

bool CheckedDevice::is_awaited(DeviceAddress address, std::size_t bytes) {
  const auto meets = [&](DeviceAddress at, std::uint64_t length) {
    return at < address + bytes && address < at + length;
  };
  for (const auto& [number, queue] : streams_) {
    for (const Operation& operation : queue.operations) {
      if (operation.kind == Operation::Kind::Scatter) {
        const Bytes table = table_of(queue, operation);
        for (std::size_t at = 0; at < table.size(); at += sizeof(Move)) {
          Move move;
          std::memcpy(&move, table.data() + at, sizeof move);
          if (meets(move.to, move.length)) return true;
        }
      }
      if (operation.kind == Operation::Kind::Copy && meets(operation.to, operation.bytes))
        return true;
    }
  }
  return false;
}

Result<Bytes> CheckedDevice::read_back(DeviceAddress address, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  const std::byte* const from = device_bytes(address, bytes);
  if (from == nullptr) return against_the_rules("read back from outside an allocation");
  if (is_awaited(address, bytes)) return fail(ErrorKind::Invalid, "read back before it was there");
  return Bytes(from, from + bytes);
}

Result<void> CheckedDevice::write(DeviceAddress address, ByteSpan bytes) {
  const std::lock_guard lock(mutex_);
  std::byte* const to = device_bytes(address, bytes.size());
  if (to == nullptr) return against_the_rules("a direct read to outside an allocation");
  std::memcpy(to, bytes.data(), bytes.size());
  return {};
}

std::unexpected<Error> CheckedCuFile::against_the_rules(std::string what) {
  violations_.push_back(what);
  return fail(ErrorKind::Invalid, std::move(what));
}

std::vector<std::string> CheckedCuFile::violations() const {
  const std::lock_guard lock(mutex_);
  return violations_;
}

std::size_t CheckedCuFile::left() const {
  const std::lock_guard lock(mutex_);
  return handles_.size() + buffers_.size();
}

std::vector<std::string> CheckedCuFile::files() const {
  const std::lock_guard lock(mutex_);
  return files_;
}

Result<CuFileHandle> CheckedCuFile::register_file(int fd) {
  const std::lock_guard lock(mutex_);
  if ((::fcntl(fd, F_GETFL) & O_DIRECT) == 0) return against_the_rules("a file without O_DIRECT");
  if (failure_ == Failure::FileRefused)
    return fail(ErrorKind::Unsupported, "cuFile: the file was refused: error 5008");
  std::array<char, 4096> path{};
  const ssize_t length =
      ::readlink(fmt::format("/proc/self/fd/{}", fd).c_str(), path.data(), path.size());
  files_.emplace_back(path.data(), static_cast<std::size_t>(std::max<ssize_t>(length, 0)));
  handles_[next_] = fd;
  return CuFileHandle{handle_of(next_++)};
}

void CheckedCuFile::release(CuFileHandle file) {
  const std::lock_guard lock(mutex_);
  if (handles_.erase(static_cast<int>(std::bit_cast<std::intptr_t>(file.handle))) == 0)
    violations_.emplace_back("released a file that was not registered");
}

Result<void> CheckedCuFile::register_buffer(DeviceAddress base, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  if (failure_ == Failure::BufferRefused && registered_++ > 0)
    return fail(ErrorKind::Unsupported, "cuFile: a buffer was refused: error 5045");
  const auto allocation = device_->allocation_of(base);
  if (base % kDirectAlignment != 0 || !allocation || !allocation->holds(base, bytes))
    return against_the_rules("a buffer that is not whole pages of device memory");
  buffers_[base] = bytes;
  return {};
}

void CheckedCuFile::release_buffer(DeviceAddress base) {
  const std::lock_guard lock(mutex_);
  if (buffers_.erase(base) == 0) violations_.emplace_back("released an unregistered buffer");
}

Result<std::size_t> CheckedCuFile::read(CuFileHandle file, DeviceAddress base, std::size_t bytes,
                                        std::uint64_t offset, std::uint64_t at) {
  int fd = -1;
  {
    const std::lock_guard lock(mutex_);
    const auto handle = handles_.find(static_cast<int>(std::bit_cast<std::intptr_t>(file.handle)));
    if (handle == handles_.end()) return against_the_rules("a read of an unregistered file");
    fd = handle->second;
    const auto buffer = buffers_.find(base);
    if (buffer == buffers_.end()) return against_the_rules("a read to an unregistered buffer");
    if (at + bytes > buffer->second) return against_the_rules("a read beyond its buffer");
    if (offset % kDirectAlignment != 0 || at % kDirectAlignment != 0 ||
        bytes % kDirectAlignment != 0)
      return against_the_rules("a read that is not of whole pages");
  }
  const std::size_t number = reads_++;
  if (failure_ == Failure::InternalErrors && number > 0)
    return fail(ErrorKind::Unsupported, "cuFile: a read was refused: error 5030");
  if (failure_ == Failure::EndsEarly && number > 0) return 0;
  if (failure_ == Failure::ShortReads) bytes = std::min<std::size_t>(bytes, kDirectAlignment);
  const std::unique_ptr<void, void (*)(void*)> buffer(std::aligned_alloc(kDirectAlignment, bytes),
                                                      std::free);
  const ssize_t got = ::pread(fd, buffer.get(), bytes, static_cast<off_t>(offset));
  if (got < 0) return fail_errno(errno, "cuFile", "cannot read");
  SHARDFS_CHECK(device_->write(
      base + at, {static_cast<const std::byte*>(buffer.get()), static_cast<std::size_t>(got)}));
  return static_cast<std::size_t>(got);
}

}  // namespace shardfs::testing
