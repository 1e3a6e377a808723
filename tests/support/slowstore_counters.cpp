#include "tests/support/slowstore_counters.h"

#include <algorithm>
#include <bit>
#include <iterator>

namespace slowstore {

std::uint64_t Coverage::add(std::uint64_t begin, std::uint64_t end) {
  std::uint64_t known = 0;
  std::uint64_t joined_begin = begin;
  std::uint64_t joined_end = end;
  auto range = ranges_.upper_bound(begin);
  if (range != ranges_.begin() && std::prev(range)->second >= begin) --range;
  while (range != ranges_.end() && range->first <= end) {
    known += std::min(end, range->second) - std::max(begin, range->first);
    joined_begin = std::min(joined_begin, range->first);
    joined_end = std::max(joined_end, range->second);
    range = ranges_.erase(range);
  }
  ranges_.emplace(joined_begin, joined_end);
  return end - begin - known;
}

Counts& Counts::operator+=(const Counts& other) {
  opens += other.opens;
  requests += other.requests;
  bytes += other.bytes;
  distinct_bytes += other.distinct_bytes;
  return *this;
}

void Counters::opened(const File& file) {
  const std::lock_guard lock(mutex_);
  ++account(file).counts.opens;
}

void Counters::arrived(const File& file, std::size_t asked) {
  const std::lock_guard lock(mutex_);
  ++account(file).counts.requests;
  ++total_.sizes.at(asked == 0 ? 0 : static_cast<std::size_t>(std::bit_width(asked - 1)));
  total_.max_in_flight = std::max(total_.max_in_flight, ++total_.in_flight);
}

void Counters::answered(const File& file, std::uint64_t offset, std::size_t bytes, Damage damage) {
  const std::lock_guard lock(mutex_);
  Account& of_file = account(file);
  of_file.counts.bytes += bytes;
  of_file.counts.distinct_bytes += of_file.coverage.add(offset, offset + bytes);
  total_.shortened += damage.shortened ? 1 : 0;
  total_.flipped += damage.flipped ? 1 : 0;
  --total_.in_flight;
}

void Counters::failed() {
  const std::lock_guard lock(mutex_);
  ++total_.failed;
  --total_.in_flight;
}

void Counters::reset() {
  const std::lock_guard lock(mutex_);
  const std::uint64_t in_flight = total_.in_flight;
  total_ = {};
  total_.in_flight = total_.max_in_flight = in_flight;
  accounts_.clear();
}

Statistics Counters::read() const {
  const std::lock_guard lock(mutex_);
  Statistics statistics = total_;
  for (const auto& [inode, account] : accounts_) {
    statistics.all += account.counts;
    statistics.files[account.name] += account.counts;
  }
  return statistics;
}

Counters::Account& Counters::account(const File& file) {
  const auto [found, added] = accounts_.try_emplace(file.inode);
  if (added) found->second.name = file.name;
  return found->second;
}

}  // namespace slowstore
