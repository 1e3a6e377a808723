#include "cache/server/block_store.h"

#include <cstring>
#include <filesystem>
#include <thread>

#include <spdlog/spdlog.h>

#include "fs/base/checksum.h"

namespace shardfs {

namespace {

/// LMDB's tree, pages that are being replaced, and values that do not fill their pages.
constexpr std::uint64_t kOverhead = 2;
constexpr std::uint64_t kLeastMap = 16 << 20;

ByteSpan bytes_of(const HotKey& key) { return std::as_bytes(std::span(&key, 1)); }

Bytes sealed(const HotKey& key, ByteSpan value) {
  Bytes whole;
  whole.reserve(sizeof key + value.size() + sizeof(std::uint64_t));
  append(whole, bytes_of(key));
  append(whole, value);
  append(whole, checksum64(whole));
  return whole;
}

std::optional<Bytes> unsealed(const HotKey& key, ByteSpan whole) {
  constexpr std::size_t kSum = sizeof(std::uint64_t);
  if (whole.size() < sizeof key + kSum) return std::nullopt;
  const ByteSpan checked = whole.first(whole.size() - kSum);
  if (std::memcmp(checked.data(), &key, sizeof key) != 0 ||
      load<std::uint64_t>(whole.data() + checked.size()) != checksum64(checked))
    return std::nullopt;
  const ByteSpan value = checked.subspan(sizeof key);
  return Bytes(value.begin(), value.end());
}

}  // namespace

BlockStore::BlockStore(std::string directory, std::uint64_t capacity_bytes,
                       std::uint64_t reach_bytes)
    : directory_(std::move(directory)),
      capacity_(capacity_bytes),
      ranges_(capacity_bytes, reach_bytes) {
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
  if (capacity_bytes == 0) return;
  auto opened = Database::open(directory_, kLeastMap + kOverhead * capacity_bytes);
  if (opened) {
    database_ = std::move(*opened);
  } else {
    spdlog::warn("{}; hot ranges are not kept", opened.error().message);
  }
}

// Not std::timed_mutex: GCC 12's ThreadSanitizer does not know how it is locked.
BlockStore::Lock BlockStore::try_lock() {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  Lock lock(mutex_, std::try_to_lock);
  while (!lock && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::microseconds(100));
    (void)lock.try_lock();
  }
  return lock;
}

std::optional<Bytes> BlockStore::get(const HotKey& key) {
  const Lock lock = try_lock();
  if (!lock || !database_ || !ranges_.touch(key)) return std::nullopt;
  const auto whole = database_->get(bytes_of(key));
  auto value = whole ? unsealed(key, *whole) : std::nullopt;
  if (!value) erase({key});
  return value;
}

void BlockStore::put(const HotKey& key, ByteSpan value) {
  const Bytes whole = sealed(key, value);
  const Lock lock = try_lock();
  if (!lock || !database_) return;
  erase(ranges_.insert(key, value.size()));
  if (!ranges_.contains(key)) return;
  const auto done =
      database_->write([&](Database::Writer& writer) { return writer.put(bytes_of(key), whole); });
  if (!done) ranges_.erase(key);  // A full disk: the value is fetched again.
  bytes_ = ranges_.bytes();
}

void BlockStore::erase(const std::vector<HotKey>& keys) {
  if (keys.empty()) return;
  for (const HotKey& key : keys) ranges_.erase(key);
  bytes_ = ranges_.bytes();
  const auto done = database_->write([&](Database::Writer& writer) -> Result<void> {
    for (const HotKey& key : keys) SHARDFS_CHECK(writer.erase(bytes_of(key)));
    return {};
  });
  if (!done) spdlog::debug("{}", done.error().message);
}

void BlockStore::drop(const HotKey& key) {
  const Lock lock = try_lock();
  if (lock && database_ && ranges_.contains(key)) erase({key});
}

void BlockStore::reach_at_least(std::uint64_t bytes) {
  if (const Lock lock = try_lock()) ranges_.reach_at_least(bytes);
}

bool BlockStore::wants(const HotKey& key, std::uint64_t bytes) {
  const Lock lock = try_lock();
  return lock && database_ && ranges_.wants(key, bytes);
}

}  // namespace shardfs
