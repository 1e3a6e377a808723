#include "cache/server/ledger.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <future>
#include <memory>
#include <system_error>
#include <utility>

#include <spdlog/spdlog.h>

#include "cache/server/steps.h"
#include "fs/base/checksum.h"

namespace shardfs {

namespace {

/// Address space, not disk: at 700 to 900 bytes a unit enough for 80 TB of archives; the lesser
/// ones where a process may not have so much (ulimit -v).
constexpr std::array kMapBytes = {std::size_t{16} << 30, std::size_t{1} << 30,
                                  std::size_t{64} << 20};

/// Behind all units of an archive: its path.
constexpr std::uint32_t kPathUnit = UINT32_MAX;

// Big-endian, so that LMDB's order is the units'.
Bytes key_of(const ArchiveId& id, std::uint32_t unit) {
  Bytes key(id.bytes.size() + sizeof unit);
  std::ranges::copy(id.bytes, key.begin());
  for (std::size_t i = 0; i < sizeof unit; ++i)
    key[id.bytes.size() + i] = std::byte(unit >> (24 - 8 * i));
  return key;
}

/// A value that tells when it stands under another key, or is damaged.
Bytes sealed(ByteSpan key, ByteSpan content) {
  const std::size_t checked = key.size() + content.size();
  Bytes value(checked + sizeof(std::uint64_t));
  std::ranges::copy(content, std::ranges::copy(key, value.begin()).out);
  store(value.data() + checked, checksum64(ByteSpan(value).first(checked)));
  return value;
}

std::optional<ByteSpan> unsealed(ByteSpan key, ByteSpan value) {
  constexpr std::size_t kSum = sizeof(std::uint64_t);
  if (value.size() < key.size() + kSum) return std::nullopt;
  const ByteSpan checked = value.first(value.size() - kSum);
  if (load<std::uint64_t>(value.data() + checked.size()) != checksum64(checked))
    return std::nullopt;
  if (std::memcmp(checked.data(), key.data(), key.size()) != 0) return std::nullopt;
  return checked.subspan(key.size());
}

Unit unit_in(ByteSpan key) {
  Unit unit = 0;
  for (const std::byte b : key.last(4)) unit = unit << 8 | std::to_integer<Unit>(b);
  return unit;
}

Result<std::vector<UnitRecord>> records_of(const Database& database, const ArchiveId& id) {
  std::vector<UnitRecord> records;
  const auto done = database.scan(id.bytes, [&](ByteSpan key, ByteSpan value) {
    if (key.size() != id.bytes.size() + 4 || unit_in(key) == kPathUnit) return true;
    const auto content = unsealed(key, value);
    if (!content || content->size() != sizeof(ChunkSums)) return true;
    UnitRecord& record = records.emplace_back(unit_in(key));
    std::memcpy(record.sums.data(), content->data(), sizeof record.sums);
    return true;
  });
  if (!done) return std::unexpected(done.error());
  return records;
}

}  // namespace

Ledger::Ledger(std::string directory) : directory_(std::move(directory)) {
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error& error) {
    spdlog::warn("the ledger is not kept: {}", error.what());
  }
}

void Ledger::stop() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

/// A damaged one is of no use to anybody: it is begun anew.
void Ledger::open_database() {
  const auto open = [&] {
    auto bytes = kMapBytes.begin();
    auto opened = Database::open(directory_, *bytes);
    while (!opened && opened.error().sys_errno == ENOMEM && ++bytes != kMapBytes.end())
      opened = Database::open(directory_, *bytes);
    return opened;
  };
  auto opened = open();
  if (!opened && opened.error().kind == ErrorKind::Corrupt) {
    spdlog::warn("{}; the ledger is begun anew", opened.error().message);
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
    opened = open();
  }
  if (opened) {
    database_ = std::move(*opened);
  } else {
    spdlog::warn("{}; the next server will fetch again", opened.error().message);
  }
}

void Ledger::run() {
  open_database();
  std::unique_lock lock(mutex_);
  while (!ending_ || !tasks_.empty()) {
    changed_.wait(lock, [&] { return ending_ || !tasks_.empty(); });
    auto tasks = std::exchange(tasks_, {});
    lock.unlock();
    run_tasks(std::move(tasks));
    lock.lock();
  }
  database_.reset();
}

void Ledger::run_tasks(std::deque<Task> tasks) {
  std::deque<Task> writes;
  for (Task& task : tasks) {
    if (task.write) {
      writes.push_back(std::move(task));
      continue;
    }
    write_all(writes);
    task.read(database_ ? &*database_ : nullptr);
    begin_anew_if_damaged();
  }
  write_all(writes);
}

// A full disk fails the commit only; what was there stays, and the units are fetched again by the
// next server.
void Ledger::write_all(std::deque<Task>& tasks) {
  const auto batch = std::exchange(tasks, {});
  if (batch.empty() || !database_) return;
  reached(Step::WrittenNotCommitted);
  const auto done = database_->write([&](Database::Writer& writer) -> Result<void> {
    for (const Task& task : batch) SHARDFS_CHECK(task.write(writer));
    return {};
  });
  if (!done) note_failure(done.error());
  begin_anew_if_damaged();
}

void Ledger::note_failure(const Error& error) {
  if (failures_.now()) spdlog::warn("{}; what is cached is fetched again", error.message);
  is_damaged_ = is_damaged_ || error.kind == ErrorKind::Corrupt;
}

/// Once: what is damaged again has another cause than what stood there.
void Ledger::begin_anew_if_damaged() {
  if (!is_damaged_ || was_begun_anew_) return;
  was_begun_anew_ = true;
  database_.reset();
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
  open_database();
}

void Ledger::post(Task task) {
  if (!thread_.joinable()) {
    if (task.read) task.read(nullptr);
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  changed_.notify_one();
}

// The answer may come after the patience has ended, so all that the task uses is its own.
bool Ledger::wait_for(std::function<void(Database*)> read) {
  auto done = std::make_shared<std::promise<void>>();
  auto waiting = done->get_future();
  post({{}, [read = std::move(read), done](Database* database) {
          read(database);
          done->set_value();
        }});
  return waiting.wait_for(kPatience) == std::future_status::ready;
}

std::optional<Ledger::Records> Ledger::load(const ArchiveId& id,
                                            std::function<void(Records)> late) {
  struct Shared {
    std::mutex mutex;
    std::optional<Records> records;
    bool given_up = false;
  };
  auto shared = std::make_shared<Shared>();
  (void)wait_for([this, id, shared, late = std::move(late)](Database* database) {
    auto found = database != nullptr ? records_of(*database, id) : Records();
    if (!found) {
      note_failure(found.error());
      found = Records();
    }
    const std::lock_guard lock(shared->mutex);
    if (shared->given_up) return late(*std::move(found));
    shared->records = *std::move(found);
  });
  const std::lock_guard lock(shared->mutex);
  shared->given_up = !shared->records;
  if (shared->given_up)
    spdlog::warn("{}: does not answer; what is cached is not used until it does", directory_);
  return std::move(shared->records);
}

std::string Ledger::path_of(const ArchiveId& id) {
  auto path = std::make_shared<std::string>();
  const bool came = wait_for([id, path](Database* database) {
    if (database == nullptr) return;
    const Bytes key = key_of(id, kPathUnit);
    const auto value = database->get(key);
    const auto content = value ? unsealed(key, *value) : std::nullopt;
    if (content) *path = as_text(*content);
  });
  return came ? *path : std::string();
}

void Ledger::note_present(const ArchiveId& id, const UnitRecord& record) {
  post({[id, record](Database::Writer& writer) {
          const Bytes key = key_of(id, record.unit);
          return writer.put(key, sealed(key, std::as_bytes(std::span(record.sums))));
        },
        {}});
}

void Ledger::note_dropped(const ArchiveId& id, Unit unit) {
  post({[id, unit](Database::Writer& writer) { return writer.erase(key_of(id, unit)); }, {}});
}

void Ledger::note_path(const ArchiveId& id, const std::string& path) {
  post({[id, path](Database::Writer& writer) {
          const Bytes key = key_of(id, kPathUnit);
          return writer.put(key, sealed(key, as_bytes(path)));
        },
        {}});
}

void Ledger::forget(const ArchiveId& id) {
  post({{}, [id](Database* database) {
          if (database == nullptr) return;
          std::vector<Bytes> keys;
          (void)database->scan(id.bytes, [&](ByteSpan key, ByteSpan) {
            keys.emplace_back(key.begin(), key.end());
            return true;
          });
          const auto done = database->write([&](Database::Writer& writer) -> Result<void> {
            for (const Bytes& key : keys) SHARDFS_CHECK(writer.erase(key));
            return {};
          });
          if (!done) spdlog::warn("{}", done.error().message);
        }});
}

void Ledger::flush() {
  (void)wait_for([](Database*) {});
}

}  // namespace shardfs
