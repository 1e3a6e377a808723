#include "cache/server/admission.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace shardfs {
namespace {

/// Kept units that one search looks at. Few enough that a miss costs nothing, enough that the
/// coldest of them is among the coldest eighth of all most of the time.
constexpr Unit kLookedAt = 8;

/// Touches a candidate must have to replace a unit with `victim` touches. Twice as many, because a
/// replacement fetches 4 MiB for what were misses of some files; six more, because shuffles alone
/// make counts of a few touches differ by that much. A unit that nobody reads any more needs no
/// such proof, only more than one read of each of the two windows.
constexpr std::uint64_t touches_needed(std::uint64_t victim) {
  return victim == 0 ? 3 : 2 * victim + 6;
}

std::uint64_t bit(Unit unit) { return std::uint64_t{1} << (unit % 64); }

std::uint32_t saturating_sum(std::uint32_t a, std::uint32_t b) {
  return std::min(a, std::numeric_limits<std::uint32_t>::max() - b) + b;
}

}  // namespace

Admission::Admission(Unit units, std::uint64_t archive_bytes)
    : units_(units),
      window_(std::max<std::uint64_t>(archive_bytes, 1)),
      current_(units),
      last_(units),
      kept_((std::size_t{units} + 63) / 64) {}

void Admission::touch(Unit unit, std::uint32_t times, std::uint64_t bytes) {
  if (unit >= units_) return;
  current_[unit].touches = saturating_sum(current_[unit].touches, times);
  current_[unit].bytes += std::min(bytes, window_);
  if (const std::uint64_t left = window_ - read_; bytes < left) {
    read_ += bytes;
  } else {
    read_ = (bytes - left) % window_;
    end_window();
  }
}

void Admission::end_window() {
  first_window_ = false;
  last_.swap(current_);
  std::ranges::fill(current_, Use{});
}

void Admission::kept(Unit unit) {
  if (unit >= units_ || is_kept(unit)) return;
  kept_[unit / 64] |= bit(unit);
  ++kept_units_;
}

void Admission::dropped(Unit unit) {
  if (!is_kept(unit)) return;
  kept_[unit / 64] &= ~bit(unit);
  --kept_units_;
}

bool Admission::is_kept(Unit unit) const {
  return unit < units_ && (kept_[unit / 64] & bit(unit)) != 0;
}

std::optional<Unit> Admission::victim_for(Unit candidate) {
  if (first_window_ || kept_units_ == 0 || candidate >= units_ || is_kept(candidate)) return {};
  // Not worth a search, and no reason to move the hand.
  if (touches(candidate) < touches_needed(0)) return {};
  const Unit victim = coldest_of_next();
  if (touches(candidate) < touches_needed(touches(victim))) return {};
  // What is read by the megabyte has few touches.
  if (bytes(candidate) < 2 * bytes(victim)) return {};
  return victim;
}

std::optional<Unit> Admission::victim_for_space() {
  if (kept_units_ == 0) return {};
  return coldest_of_next();
}

std::uint64_t Admission::touches(Unit unit) const {
  return std::uint64_t{current_[unit].touches} + last_[unit].touches;
}

std::uint64_t Admission::bytes(Unit unit) const { return current_[unit].bytes + last_[unit].bytes; }

// REQUIRES: something is kept.
Unit Admission::coldest_of_next() {
  Unit coldest = next_kept();
  for (Unit i = 1; i < std::min(kLookedAt, kept_units_); ++i) {
    const Unit other = next_kept();
    if (touches(other) < touches(coldest)) coldest = other;
  }
  return coldest;
}

// REQUIRES: something is kept.
Unit Admission::next_kept() {
  std::size_t word = hand_ / 64;
  std::uint64_t bits = kept_[word] & (~std::uint64_t{0} << (hand_ % 64));
  while (bits == 0) {
    word = (word + 1) % kept_.size();
    bits = kept_[word];
  }
  const auto found = static_cast<Unit>(word * 64 + std::countr_zero(bits));
  hand_ = found + 1 < units_ ? found + 1 : 0;
  return found;
}

}  // namespace shardfs
