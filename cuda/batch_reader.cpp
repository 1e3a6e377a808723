#include "cuda/batch_reader.h"

#include <algorithm>
#include <cerrno>
#include <exception>
#include <new>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "fs/base/bytes.h"

namespace shardfs {
namespace {

/// Before it is looked again whether there is a file for direct reads.
constexpr std::chrono::milliseconds kTryAgain{250};

// Some CPU is left to who asks, and to the driver.
unsigned default_readers() {
  const unsigned cpus = std::thread::hardware_concurrency();
  return std::clamp(cpus - cpus / 8, 1U, BatchOptions::kMostReaders);
}

}  // namespace

void Batch::wait_for_readers() {
  std::unique_lock lock(mutex_);
  done_.wait(lock, [&] { return left_ == 0; });
}

void Batch::wait() {
  wait_for_readers();
  begin_ = {};
  for (const auto& event : copied_) {
    if (!event) continue;
    const auto waited = reader_->device()->wait(*event);
    if (waited) continue;
    for (Outcome& outcome : outcomes_) {
      if (!outcome.error) outcome.error = waited.error();
    }
  }
}

Result<void> Batch::wait_in(Stream stream) {
  wait_for_readers();
  begin_ = {};
  for (const auto& event : copied_) {
    if (!event) continue;
    if (auto waits = reader_->device()->wait_in(stream, *event); !waits) {
      wait();
      return waits;
    }
  }
  return {};
}

BatchReader::BatchReader(const Dataset& dataset, std::shared_ptr<Device> device,
                         const BatchOptions& options, std::shared_ptr<CuFile> cufile)
    : dataset_(dataset),
      has_checksums_(dataset.archive().info().checksum != "none"),
      device_(std::move(device)),
      options_(options),
      readers_(options.readers != 0 ? options.readers : default_readers()),
      pid_(::getpid()) {
  direct_.cufile = std::move(cufile);
}

BatchReader::~BatchReader() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wanted_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

Result<RouteChoice> BatchReader::route() {
  const std::lock_guard lock(direct_mutex_);
  return choose_route();
}

/// A file for direct reads, which may come to be only once the cache is complete. The trial read
/// needs memory of the device, as long as it lasts.
Result<void> BatchReader::try_direct() {
  SHARDFS_TRY(UniqueFd fd, dataset_.open_whole(O_RDONLY | O_DIRECT | O_CLOEXEC));
  SHARDFS_TRY(std::shared_ptr<const DirectFile> file,
              DirectFile::open(std::move(fd), direct_.cufile));
  // What it takes for unchanged from now on is the archive that was opened.
  SHARDFS_CHECK(dataset_.check_unchanged());
  SHARDFS_TRY(const DeviceMemory memory, device_->allocate(kDirectAlignment));
  const OfDevice<DeviceMemory> owner(*device_, memory);
  SHARDFS_CHECK(direct_.cufile->register_buffer(memory.address, kDirectAlignment));
  const auto served = file->is_served_by_nvidia_fs(memory.address);
  direct_.cufile->release_buffer(memory.address);
  SHARDFS_TRY(direct_.nvidia_fs, served);
  direct_.file = std::move(file);
  return {};
}

void BatchReader::look_for_direct() {
  if (direct_.file || !direct_.why_no_cufile.empty()) return;
  if (!device_->facts().has_kernels) {
    direct_.why_no_cufile = device_->facts().name + ": too old to put in place what cuFile reads";
    return;
  }
  if (!direct_.cufile) {
    auto loaded = load_cufile(options_.cufile);
    if (!loaded) {
      direct_.why_no_cufile = loaded.error().message;
      return;
    }
    direct_.cufile = *std::move(loaded);
  }
  // It may be a matter of time: a cache that is being filled.
  const auto now = std::chrono::steady_clock::now();
  if (now < direct_.not_before) return;
  direct_.not_before = now + kTryAgain;
  const auto tried = try_direct();
  direct_.why_no_file = tried ? "" : tried.error().message;
}

Result<RouteChoice> BatchReader::choose_route() {
  RouteFacts facts;
  facts.mode = options_.mode;
  facts.to_device = device_ != nullptr;
  facts.checked = options_.checked && has_checksums_;
  facts.asked = options_.asked;
  if (device_ && !facts.checked && facts.asked != Route::Pinned) {
    look_for_direct();
    facts.why_no_cufile = direct_.why_no_cufile;
    facts.why_no_file = direct_.why_no_file;
    facts.nvidia_fs = direct_.nvidia_fs;
  }
  auto choice = choose(facts);
  if (choice && choice->reason != last_reason_) {
    last_reason_ = choice->reason;
    spdlog::info("{}: route {}: {}", dataset_.path(), name(choice->route), choice->reason);
  }
  return choice;
}

Result<std::shared_ptr<Batch>> BatchReader::submit(std::vector<Item> items, bool gaps_are_free,
                                                   std::optional<Stream> after) {
  if (::getpid() != pid_)
    return fail(ErrorKind::Unsupported,
                dataset_.path() + ": opened before fork(); try: opening it in this process");
  std::shared_ptr<Batch> batch(new Batch());
  batch->reader_ = this;
  batch->gaps_are_free_ = gaps_are_free;
  {
    const std::lock_guard lock(direct_mutex_);
    SHARDFS_TRY(batch->choice_, choose_route());
    batch->direct_ = direct_.file;
  }
  if (device_) {
    SHARDFS_CHECK(check_memory(items));
    if (after) {
      SHARDFS_TRY(const Event event, device_->create_event());
      batch->begin_ = {*device_, event};
      SHARDFS_CHECK(device_->record(event, *after));
    }
  }
  batch->items_ = std::move(items);
  batch->outcomes_.resize(batch->items_.size());
  for (Outcome& outcome : batch->outcomes_) outcome = {batch->choice_.route, has_checksums_, {}};
  batch->plan_ = plan(batch->items_, {options_.staging, readers_, gaps_are_free});
  batch->left_ = batch->plan_.tasks.size();
  batch->copied_.resize(readers_);
  if (batch->left_ == 0) return batch;
  {
    const std::lock_guard lock(mutex_);
    SHARDFS_CHECK(start());
    queue_.push_back(batch);
  }
  wanted_.notify_all();
  return batch;
}

/// Whether each item goes to memory of the device. Most batches go into one allocation.
Result<void> BatchReader::check_memory(std::span<const Item> items) const {
  Allocation allocation;
  for (const Item& item : items) {
    if (item.length == 0 || allocation.holds(item.to, item.length)) continue;
    SHARDFS_TRY(allocation, device_->allocation_of(item.to));
    // Memory may have been mapped in pieces, side by side: what is called one allocation is one of
    // them (PyTorch's expandable_segments).
    while (!allocation.holds(item.to, item.length)) {
      const DeviceAddress end = allocation.begin + allocation.bytes;
      const auto next = device_->allocation_of(end);
      if (!next || next->begin != end || !device_->is_mapped(end - 1) || !device_->is_mapped(end))
        return fail(ErrorKind::Invalid,
                    fmt::format("{} bytes at {:#x} are more than was allocated there", item.length,
                                item.to));
      allocation.bytes += next->bytes;
    }
  }
  return {};
}

Result<void> BatchReader::start() {
  while (threads_.size() < readers_) {
    const auto number = static_cast<unsigned>(threads_.size());
    try {
      threads_.emplace_back([this, number] { work(number); });
    } catch (const std::system_error& error) {
      if (threads_.empty())
        return fail_errno(error.code().value(), dataset_.path(), "no thread to read with");
      break;  // Some are enough, and the next batch may get more.
    }
  }
  return {};
}

Result<void> BatchReader::open_lane(std::unique_ptr<Lane>& lane) {
  SHARDFS_TRY(lane, Lane::open(*device_, options_.staging));
  return {};
}

void BatchReader::work(unsigned number) {
  std::unique_ptr<Lane> lane;
  if (device_) device_->use();
  for (;;) {
    std::shared_ptr<Batch> batch;
    std::size_t task = 0;
    {
      std::unique_lock lock(mutex_);
      wanted_.wait(lock, [&] { return ending_ || !queue_.empty(); });
      if (queue_.empty()) return;
      batch = queue_.front();
      task = batch->next_++;
      if (batch->next_ == batch->plan_.tasks.size()) queue_.pop_front();
    }
    try {
      // Pinned memory is dear to make: a reader has it from its first task on.
      Result<void> opened = {};
      if (device_ && !lane) opened = open_lane(lane);
      if (opened) {
        run(*batch, task, number, lane.get());
      } else {
        fail_task(*batch, task, opened.error());
      }
    } catch (const std::bad_alloc&) {
      fail_task(*batch, task, {ErrorKind::NoSpace, ENOMEM, "out of memory"});
    } catch (const std::exception& thrown) {
      fail_task(*batch, task, {ErrorKind::Io, 0, thrown.what()});
    }
    end_task(*batch);
  }
}

void BatchReader::fail_task(Batch& batch, std::size_t number, const Error& error) {
  const Task& task = batch.plan_.tasks[number];
  for (const Part& part : std::span(batch.plan_.parts).subspan(task.first, task.count))
    settle(batch, part.item, {Route::Pinned, false, error});
}

void BatchReader::settle(Batch& batch, std::uint32_t item, PartOutcome outcome) {
  const std::lock_guard lock(batch.mutex_);
  Outcome& whole = batch.outcomes_[item];
  whole.route = std::min(whole.route, outcome.route);
  whole.verified = whole.verified && outcome.checked;
  if (outcome.error && !whole.error) whole.error = std::move(outcome.error);
}

void BatchReader::end_task(Batch& batch) {
  const std::lock_guard lock(batch.mutex_);
  // Under the lock: whoever waits may let go of the batch as soon as it is given up.
  if (--batch.left_ == 0) batch.done_.notify_all();
}

void BatchReader::run(Batch& batch, std::size_t number_of_task, unsigned number, Lane* lane) {
  const Task& task = batch.plan_.tasks[number_of_task];
  if (lane == nullptr) return read_to_host(batch, task);
  Lane::Job job;
  job.archive = &dataset_.archive();
  job.items = batch.items_;
  job.parts = std::span(batch.plan_.parts).subspan(task.first, task.count);
  const Route route = batch.choice_.route;
  if (route == Route::Gds || route == Route::GdsCompat) {
    job.direct = batch.direct_.get();
    job.cufile = batch.direct_->cufile();
  }
  job.direct_route = route;
  job.has_checksums = has_checksums_;
  job.gaps_are_free = batch.gaps_are_free_;
  if (batch.begin_) job.after = *batch.begin_;
  const auto sent = lane->run(job, [&](std::size_t part, PartOutcome outcome) {
    settle(batch, job.parts[part].item, std::move(outcome));
  });
  if (sent) batch.copied_[number] = sent;
}

void BatchReader::read_to_host(Batch& batch, const Task& task) {
  for (const Part& part : std::span(batch.plan_.parts).subspan(task.first, task.count)) {
    auto* const to = static_cast<std::byte*>(to_pointer(part.to));
    const auto got = dataset_.archive().read(batch.items_[part.item].inode, part.offset,
                                             std::span(to, part.length), nullptr);
    PartOutcome outcome{Route::Host, has_checksums_, {}};
    if (!got) {
      outcome.error = got.error();
    } else if (*got != part.length) {
      outcome.error = Error{ErrorKind::Corrupt, 0, "a file is shorter than its size"};
    }
    settle(batch, part.item, std::move(outcome));
  }
}

}  // namespace shardfs
