#include "cuda/plan.h"

#include <algorithm>
#include <numeric>

#include "fs/base/bytes.h"

namespace shardfs {
namespace {

constexpr std::uint64_t kWord = 16;

std::vector<std::uint32_t> archive_order(std::span<const Item> items) {
  std::vector<std::uint32_t> order(items.size());
  std::iota(order.begin(), order.end(), 0U);
  std::ranges::stable_sort(order, [&](std::uint32_t a, std::uint32_t b) {
    return items[a].position != items[b].position ? items[a].position < items[b].position
                                                  : items[a].offset < items[b].offset;
  });
  return order;
}

/// Puts parts into tasks one after the other.
class Planner {
 public:
  Planner(const PlanLimits& limits, std::uint64_t task_bytes)
      : limits_(limits), task_bytes_(task_bytes) {}

  void add(const Item& item, std::uint32_t number) {
    std::uint64_t offset = item.offset;
    const std::uint64_t end = item.offset + item.length;
    while (offset < end) {
      const std::uint64_t cut = offset / kPartGrain * kPartGrain + task_bytes_;
      const std::uint64_t length = std::min(end, cut) - offset;
      add(Part{number, offset, length, item.to + (offset - item.offset), 0});
      offset += length;
    }
  }

  [[nodiscard]] Plan take() { return std::move(plan_); }

 private:
  void add(Part part) {
    if (!plan_.tasks.empty() && fits(part)) {
      part.at = place(part);
    } else {
      plan_.tasks.push_back({plan_.parts.size(), 0, 0});
      part.at = part.to % kWord;
    }
    Task& task = plan_.tasks.back();
    ++task.count;
    task.staged = part.at + part.length;
    plan_.parts.push_back(part);
  }

  [[nodiscard]] bool fits(const Part& part) const {
    const Task& task = plan_.tasks.back();
    return task.count < kMostParts && task.staged < task_bytes_ &&
           place(part) + part.length <= limits_.staging;
  }

  /// Behind the last part; as far behind it as in memory, if what lies between is free.
  [[nodiscard]] std::uint64_t place(const Part& part) const {
    const Part& last = plan_.parts.back();
    const std::uint64_t end = plan_.tasks.back().staged;
    const std::uint64_t gap = part.to - (last.to + last.length);
    if (gap == 0 || (limits_.gaps_are_free && gap < kGap)) return end + gap;
    return end + (part.to - end) % kWord;
  }

  const PlanLimits limits_;
  const std::uint64_t task_bytes_;
  Plan plan_;
};

}  // namespace

Plan plan(std::span<const Item> items, const PlanLimits& limits) {
  const std::uint64_t total =
      std::accumulate(items.begin(), items.end(), std::uint64_t{0},
                      [](std::uint64_t sum, const Item& item) { return sum + item.length; });
  // A task for each reader, for the larger a copy the better the bus is used. One grain of the
  // staging memory is left for what lies between parts.
  const std::uint64_t share = round_up(total / limits.readers + 1, kPartGrain);
  Planner planner(limits, std::clamp(share, std::min(kLeastTask, limits.staging - kPartGrain),
                                     limits.staging - kPartGrain));
  for (const std::uint32_t number : archive_order(items)) {
    if (items[number].length != 0) planner.add(items[number], number);
  }
  return planner.take();
}

std::uint64_t lay_out(std::span<Item> items) {
  std::uint64_t end = 0;
  for (const std::uint32_t number : archive_order(items)) {
    items[number].to = end;
    end += round_up(items[number].length, kGap);
  }
  return end;
}

}  // namespace shardfs
