#include "cache/server/budget.h"

#include <algorithm>

namespace shardfs {

namespace {

/// The less of two numbers of which 0 means no bound.
std::uint32_t lesser_rate(std::uint32_t a, std::uint32_t b) {
  if (a == 0 || b == 0) return std::max(a, b);
  return std::min(a, b);
}

}  // namespace

void Budget::add_limits(std::uint64_t client, const CacheLimits& limits) {
  asked_[client] = limits;
  find_least();
}

void Budget::remove_limits(std::uint64_t client) {
  asked_.erase(client);
  find_least();
}

void Budget::find_least() {
  least_ = asked_.empty() ? CacheLimits{} : asked_.begin()->second;
  for (const auto& [number, one] : asked_) {
    least_.bytes = std::min(least_.bytes, one.bytes);
    least_.reserve = std::max(least_.reserve, one.reserve);
    least_.memory = std::min(least_.memory, one.memory);
    least_.store_rate = lesser_rate(least_.store_rate, one.store_rate);
    least_.store_inflight = std::max(1U, std::min(least_.store_inflight, one.store_inflight));
    least_.timeout_ms = std::min(least_.timeout_ms, one.timeout_ms);
  }
}

bool Budget::has_room(std::uint64_t bytes, bool in_memory) const {
  if (in_memory) return memory_ + bytes <= least_.memory;
  if (std::chrono::steady_clock::now() < full_until_ || disk_ + blocks_ + bytes > least_.bytes)
    return false;
  const auto now = file_system_of(directory_.fd(), directory_.path());
  return now && now->free_bytes >= bytes + pending_ &&
         now->free_bytes - bytes - pending_ >= least_.reserve;
}

std::uint64_t Budget::excess() const {
  const auto now = file_system_of(directory_.fd(), directory_.path());
  const std::uint64_t free = now ? now->free_bytes : least_.reserve;
  return std::min(least_.reserve - std::min(least_.reserve, free), disk_);
}

bool Budget::take(std::uint64_t bytes, bool in_memory) {
  const bool room = has_room(bytes, in_memory);
  if (!in_memory) full_ = !room;
  if (!room) return false;
  (in_memory ? memory_ : disk_) += bytes;
  if (!in_memory) pending_ += bytes;
  return true;
}

void Budget::landed(std::uint64_t bytes, bool in_memory) {
  if (!in_memory) pending_ -= std::min(pending_, bytes);
}

void Budget::give_back(std::uint64_t bytes, bool in_memory) {
  std::uint64_t& used = in_memory ? memory_ : disk_;
  used -= std::min(used, bytes);
  if (!in_memory) full_ = false;  // as far as is known
}

void Budget::note_full() {
  full_ = true;
  const auto now = std::chrono::steady_clock::now();
  if (now < full_until_) return;  // Another write that was under way.
  full_until_ = now + pause_;
  pause_ = std::min(pause_ * 2, kLongestPause);
}

}  // namespace shardfs
