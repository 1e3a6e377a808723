#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <iterator>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <dlfcn.h>
#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cuda/batch_reader.h"
#include "cuda/batches.h"
#include "cuda/buffer.h"
#include "cuda/shardfs_gpu.h"

// Behind the interface's names there are classes of ours.
struct shardfs_dataset {
  std::shared_ptr<shardfs::Batches> batches;
  pid_t opened_by = ::getpid();
};
struct shardfs_batch {
  std::shared_ptr<shardfs::Batches> batches;  ///< outlives the batch
  std::shared_ptr<shardfs::Batch> batch = {};
  std::span<shardfs_read> reads = {};
  std::vector<std::uint32_t> items = {};     ///< number of the read behind each item
  std::optional<shardfs::Error> error = {};  ///< of a read that was none
  pid_t begun_by = ::getpid();

  enum class State : std::uint8_t { OnItsWay, InStream, InPlace };
  std::mutex mutex = {};  ///< guards the results in `reads`, and what follows
  State state = State::OnItsWay;
};

namespace shardfs {
namespace {

static_assert(static_cast<int>(Route::Gds) == SHARDFS_ROUTE_GDS &&
              static_cast<int>(Route::Host) == SHARDFS_ROUTE_HOST);
static_assert(Batches::kHost == SHARDFS_HOST);

int report(const Error& error, shardfs_error* out) {
  const int code = error.to_errno();
  if (out != nullptr) {
    out->code = code;
    const std::size_t length = std::min(error.message.size(), sizeof out->message - 1);
    std::memcpy(out->message, error.message.data(), length);
    out->message[length] = '\0';
  }
  return code;
}

/// Runs what a function of the interface does; nothing is thrown through it.
template <typename Call>
int guarded(shardfs_error* error, Call&& call) {
  try {
    const Result<void> done = call();
    if (!done) return report(done.error(), error);
    if (error != nullptr) *error = {};
    return 0;
  } catch (const std::bad_alloc&) {
    return report({ErrorKind::NoSpace, ENOMEM, "out of memory"}, error);
  } catch (const std::exception& thrown) {
    return report({ErrorKind::Unsupported, 0, thrown.what()}, error);
  }
}

std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

/// A library says nothing on standard output, and on standard error only what its user should know;
/// more with SHARDFS_LOG=info.
void begin_log() {
  static std::once_flag once;
  std::call_once(once, [] {
    if (spdlog::get("shardfs")) return;  // The program's own.
    auto logger = spdlog::stderr_logger_mt("shardfs");
    logger->set_pattern("shardfs: %v");
    const std::string level = environment("SHARDFS_LOG");
    logger->set_level(level.empty() ? spdlog::level::warn : spdlog::level::from_str(level));
    spdlog::set_default_logger(std::move(logger));
  });
}

bool is_program(const std::string& path) {
  struct stat st {};
  return ::stat(path.c_str(), &st) == 0 && S_ISREG(st.st_mode) && ::access(path.c_str(), X_OK) == 0;
}

/// The program that serves the cache: beside this library ("lib" and "bin" of one prefix, or a
/// build folder), or in $PATH; "" if there is none.
std::string find_program() {
  if (auto set = environment("SHARDFS_COMMAND"); !set.empty()) return set;
  Dl_info self{};
  if (::dladdr(reinterpret_cast<void*>(&find_program), &self) != 0 && self.dli_fname != nullptr) {
    std::error_code failed;
    const auto library = std::filesystem::canonical(self.dli_fname, failed).parent_path();
    for (const char* beside : {"../bin/shardfs", "../../bin/shardfs", "../tools/shardfs/shardfs"}) {
      if (auto path = (library / beside).string(); !failed && is_program(path)) return path;
    }
  }
  const std::string path = environment("PATH");
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find(':', begin), path.size());
    if (auto candidate = path.substr(begin, end - begin) + "/shardfs"; is_program(candidate))
      return candidate;
    begin = end + 1;
  }
  return "";
}

std::unexpected<Error> wrong(std::string_view what, std::string_view value) {
  return fail(ErrorKind::Invalid, fmt::format("{}: no such {}", value, what));
}

Result<CacheSettings> cache_settings(const shardfs_options& options) {
  CacheSettings settings;
  const std::string tier = options.tier == nullptr ? "auto" : options.tier;
  if (tier != "auto") {
    for (const Tier one : {Tier::None, Tier::Memory, Tier::Disk, Tier::Partial}) {
      if (tier == name(one)) settings.tier = one;
    }
    if (!settings.tier) return wrong("tier", tier);
  }
  settings.directory = options.cache_dir == nullptr ? default_cache_parent() : options.cache_dir;
  settings.limit = options.cache_bytes;
  settings.store_rate = options.store_rate;
  settings.store_inflight = options.store_inflight;
  settings.store_timeout_ms = options.store_timeout_ms;
  settings.server_command = options.shardfs == nullptr ? find_program() : options.shardfs;
  if (settings.server_command.empty() && settings.tier != Tier::None) {
    spdlog::info("the shardfs program is not in $PATH: archives are read in place, uncached");
    settings.tier = Tier::None;
  }
  return settings;
}

Result<BatchOptions> batch_options(const shardfs_options& options) {
  BatchOptions batch;
  if (options.readers > BatchOptions::kMostAsked)
    return fail(ErrorKind::Invalid, fmt::format("readers: {}: more than {}", options.readers,
                                                BatchOptions::kMostAsked));
  batch.readers = options.readers;
  if (options.staging_bytes % kPartGrain != 0 || options.staging_bytes < 2 * kPartGrain)
    return fail(ErrorKind::Invalid,
                fmt::format("staging_bytes: {}: not a multiple of {}, or less than two of it",
                            options.staging_bytes, kPartGrain));
  batch.staging = options.staging_bytes;
  batch.checked = options.verify != 0;
  std::string mode = options.gpu == nullptr ? environment("SHARDFS_GPU") : options.gpu;
  if (mode.empty()) mode = "auto";
  SHARDFS_TRY(batch.mode, gpu_mode_of(mode));
  const std::string_view route = options.route == nullptr ? "" : options.route;
  if (route == "pinned") batch.asked = Route::Pinned;
  if (route == "gds") batch.asked = Route::GdsCompat;
  if (!route.empty() && !batch.asked) return wrong("route", route);
  if (options.cufile != nullptr) batch.cufile = options.cufile;
  return batch;
}

/// Sets the results of reads that go no further.
void settle(shardfs_read& read, const Error& error) {
  read.bytes = 0;
  read.route = SHARDFS_ROUTE_HOST;
  read.verified = 0;
  read.error = error.to_errno();
}

Result<Item> nothing_to_read() { return fail(ErrorKind::Invalid, "a read without a path"); }

/// The reads of a batch as items. One that names no file is settled with its error, which is given
/// too.
std::vector<Item> items_of(shardfs_batch& batch) {
  std::vector<Item> items;
  items.reserve(batch.reads.size());
  Batches::Directory directory;
  for (std::size_t i = 0; i < batch.reads.size(); ++i) {
    shardfs_read& read = batch.reads[i];
    const auto item =
        read.path == nullptr
            ? nothing_to_read()
            : batch.batches->item(read.path, read.offset, read.length,
                                  reinterpret_cast<DeviceAddress>(read.buffer), &directory);
    if (!item) {
      settle(read, item.error());
      if (!batch.error) batch.error = item.error();
      continue;
    }
    items.push_back(*item);
    batch.items.push_back(static_cast<std::uint32_t>(i));
  }
  return items;
}

/// Puts the results into the reads; the first error.
Result<void> results(shardfs_batch& batch) {
  const Error* first = batch.error ? &*batch.error : nullptr;
  const auto outcomes = batch.batch->outcomes();
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    shardfs_read& read = batch.reads[batch.items[i]];
    const Outcome& outcome = outcomes[i];
    if (outcome.error) {
      settle(read, *outcome.error);
      if (first == nullptr) first = &*outcome.error;
    } else {
      read.bytes = batch.batch->items()[i].length;
      read.verified = outcome.verified ? 1 : 0;
      read.error = 0;
    }
    read.route = static_cast<std::int32_t>(outcome.route);
  }
  if (first != nullptr) return std::unexpected(*first);
  return {};
}

Result<std::unique_ptr<shardfs_batch>> submit(const shardfs_dataset& dataset, int device,
                                              std::span<shardfs_read> reads,
                                              std::optional<Stream> after) {
  SHARDFS_TRY(BatchReader* const reader, dataset.batches->to(device));
  auto batch = std::make_unique<shardfs_batch>(dataset.batches);
  batch->reads = reads;
  SHARDFS_TRY(batch->batch, reader->submit(items_of(*batch), false, after));
  return batch;
}

/// Waits on the host, or has `stream` wait for what is still to be copied, and fills in the
/// results.
Result<void> wait(shardfs_batch& batch, std::optional<Stream> stream) {
  using State = shardfs_batch::State;
  // In a child after fork() there are no threads that go on with it.
  if (batch.begun_by != ::getpid())
    return fail(ErrorKind::Unsupported,
                "a batch that was begun before fork(); try: reading in this process");
  const std::lock_guard lock(batch.mutex);
  Result<void> waited = {};
  if (batch.state != State::InPlace && stream) waited = batch.batch->wait_in(*stream);
  if (batch.state != State::InPlace && !stream) batch.batch->wait();
  // Where the stream cannot wait, the host has.
  if (batch.state != State::InPlace)
    batch.state = stream && waited ? State::InStream : State::InPlace;
  SHARDFS_CHECK(results(batch));
  return waited;
}

struct DropBuffer {
  void operator()(Buffer* buffer) const { buffer->drop(); }
};

}  // namespace
}  // namespace shardfs

using shardfs::Result;

extern "C" {

void shardfs_options_init_sized(shardfs_options* options, size_t size) {
  const shardfs::CacheSettings cache;
  const shardfs::BatchOptions batch;
  shardfs_options all = {};
  all.size = std::min(size, sizeof all);
  all.cache_bytes = cache.limit;
  all.store_rate = cache.store_rate;
  all.store_inflight = cache.store_inflight;
  all.store_timeout_ms = cache.store_timeout_ms;
  all.verify = 1;
  all.staging_bytes = batch.staging;
  std::memcpy(options, &all, all.size);
}

int shardfs_open(const char* path, const shardfs_options* options, shardfs_dataset** dataset,
                 shardfs_error* error) {
  *dataset = nullptr;
  return shardfs::guarded(error, [&]() -> Result<void> {
    shardfs::begin_log();
    shardfs_options given;
    shardfs_options_init(&given);
    // Another version's struct has its first fields in common with this one's.
    if (options != nullptr) {
      if (options->size < offsetof(shardfs_options, cache_bytes))
        return shardfs::fail(shardfs::ErrorKind::Invalid,
                             "options that are not set; try: shardfs_options_init()");
      std::memcpy(&given, options, std::min(options->size, sizeof given));
    }
    SHARDFS_TRY(const auto settings, shardfs::cache_settings(given));
    SHARDFS_TRY(const auto batch, shardfs::batch_options(given));
    SHARDFS_TRY(auto batches, shardfs::Batches::open(path, settings, batch));
    *dataset = new shardfs_dataset{.batches = std::move(batches)};
    return {};
  });
}

void shardfs_close(shardfs_dataset* dataset) {
  // A child after fork() has none of the threads that locks and conditions are waiting for.
  if (dataset != nullptr && dataset->opened_by == ::getpid()) delete dataset;
}

int shardfs_size(shardfs_dataset* dataset, const char* path, std::uint64_t* size,
                 shardfs_error* error) {
  return shardfs::guarded(error, [&]() -> Result<void> {
    SHARDFS_TRY(const auto file, dataset->batches->file(path));
    *size = dataset->batches->dataset().tree().file_size(file);
    return {};
  });
}

int shardfs_list(shardfs_dataset* dataset, const char* path,
                 int (*visit)(void*, const char*, std::uint64_t), void* context,
                 shardfs_error* error) {
  return shardfs::guarded(error, [&] {
    return dataset->batches->visit_files(path, [&](const std::string& file, std::uint64_t size) {
      return visit(context, file.c_str(), size) == 0;
    });
  });
}

int shardfs_list_text(shardfs_dataset* dataset, const char* path, char* text, std::size_t capacity,
                      std::size_t* length, shardfs_error* error) {
  return shardfs::guarded(error, [&]() -> Result<void> {
    std::string all;
    SHARDFS_CHECK(
        dataset->batches->visit_files(path, [&](const std::string& file, std::uint64_t size) {
          fmt::format_to(std::back_inserter(all), "{}{}{}{}", file, '\0', size, '\0');
          return true;
        }));
    *length = all.size();
    if (all.size() <= capacity) std::ranges::copy(all, text);
    return {};
  });
}

int shardfs_extents(shardfs_dataset* dataset, const char* path, shardfs_extent* extents,
                    std::size_t capacity, std::size_t* count, shardfs_error* error) {
  return shardfs::guarded(error, [&]() -> Result<void> {
    SHARDFS_TRY(const auto file, dataset->batches->file(path));
    SHARDFS_TRY(const auto found, dataset->batches->dataset().archive().extents(file));
    *count = found.size();
    for (std::size_t i = 0; i < std::min(capacity, found.size()); ++i)
      extents[i] = {found[i].offset, found[i].length, found[i].stored ? 1 : 0, found[i].skip,
                    found[i].decoded};
    return {};
  });
}

int shardfs_route_to(shardfs_dataset* dataset, int device, enum shardfs_route* route, char* reason,
                     std::size_t capacity, shardfs_error* error) {
  return shardfs::guarded(error, [&]() -> Result<void> {
    SHARDFS_TRY(shardfs::BatchReader* const reader, dataset->batches->to(device));
    SHARDFS_TRY(const auto choice, reader->route());
    *route = static_cast<enum shardfs_route>(choice.route);
    if (capacity != 0) {
      const std::size_t length = std::min(choice.reason.size(), capacity - 1);
      std::memcpy(reason, choice.reason.data(), length);
      reason[length] = '\0';
    }
    return {};
  });
}

const char* shardfs_route_name(enum shardfs_route route) {
  return shardfs::name(static_cast<shardfs::Route>(route));
}

int shardfs_submit(shardfs_dataset* dataset, int device, shardfs_read* reads, std::size_t count,
                   void* stream, unsigned flags, shardfs_batch** batch, shardfs_error* error) {
  *batch = nullptr;
  return shardfs::guarded(error, [&]() -> Result<void> {
    std::optional<shardfs::Stream> after;
    if ((flags & SHARDFS_AFTER_STREAM) != 0) after = shardfs::Stream{stream};
    SHARDFS_TRY(auto submitted, shardfs::submit(*dataset, device, {reads, count}, after));
    *batch = submitted.release();
    return {};
  });
}

int shardfs_wait(shardfs_batch* batch, shardfs_error* error) {
  return shardfs::guarded(error, [&] { return shardfs::wait(*batch, std::nullopt); });
}

int shardfs_wait_in_stream(shardfs_batch* batch, void* stream, shardfs_error* error) {
  return shardfs::guarded(error, [&] { return shardfs::wait(*batch, shardfs::Stream{stream}); });
}

void shardfs_batch_drop(shardfs_batch* batch) {
  if (batch == nullptr || batch->begun_by != ::getpid()) return;
  if (batch->state == shardfs_batch::State::OnItsWay) batch->batch->wait();
  delete batch;
}

int shardfs_read_batch(shardfs_dataset* dataset, int device, shardfs_read* reads, std::size_t count,
                       void* stream, unsigned flags, shardfs_error* error) {
  shardfs_batch* batch = nullptr;
  int code = shardfs_submit(dataset, device, reads, count, stream, flags, &batch, error);
  if (code == 0) code = shardfs_wait(batch, error);
  shardfs_batch_drop(batch);
  return code;
}

int shardfs_read_packed(shardfs_dataset* dataset, int device, shardfs_read* reads,
                        std::size_t count, shardfs_buffer** buffer, shardfs_error* error) {
  *buffer = nullptr;
  return shardfs::guarded(error, [&]() -> Result<void> {
    SHARDFS_TRY(shardfs::BatchReader* const reader, dataset->batches->to(device));
    shardfs_batch batch{.batches = dataset->batches};
    batch.reads = {reads, count};
    std::vector<shardfs::Item> items = shardfs::items_of(batch);
    SHARDFS_TRY(shardfs::Buffer* const made,
                shardfs::Buffer::make(reader->device(), shardfs::lay_out(items)));
    std::unique_ptr<shardfs::Buffer, shardfs::DropBuffer> memory(made);
    for (std::size_t i = 0; i < items.size(); ++i) {
      items[i].to += memory->address();
      reads[batch.items[i]].buffer = shardfs::to_pointer(items[i].to);
    }
    SHARDFS_TRY(batch.batch, reader->submit(std::move(items), true, std::nullopt));
    const auto done = shardfs::wait(batch, std::nullopt);
    *buffer = reinterpret_cast<shardfs_buffer*>(memory.release());
    return done;
  });
}

void* shardfs_buffer_data(const shardfs_buffer* buffer) {
  return shardfs::to_pointer(reinterpret_cast<const shardfs::Buffer*>(buffer)->address());
}

std::uint64_t shardfs_buffer_size(const shardfs_buffer* buffer) {
  return reinterpret_cast<const shardfs::Buffer*>(buffer)->size();
}

void shardfs_buffer_drop(shardfs_buffer* buffer) {
  reinterpret_cast<shardfs::Buffer*>(buffer)->drop();
}

void* shardfs_buffer_dlpack(shardfs_buffer* buffer, std::uint64_t offset, std::uint64_t bytes) {
  return reinterpret_cast<shardfs::Buffer*>(buffer)->dlpack(offset, bytes);
}

void shardfs_drop_capsule(void* capsule) { shardfs::drop_capsule(capsule); }

}  // extern "C"
