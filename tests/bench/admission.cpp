// What the cache would serve of a trace of reads: replays traces through the very classes that the
// cache server decides by, beside the policies that they are meant to beat.
//
//   bench_admission
//   bench_admission --trace FILE [--archive-bytes N]     FILE: lines "OFFSET LENGTH", in bytes
//
// A read is a hit when all its bytes are held. Counted is what comes after the first epoch of the
// job in question, or after as many bytes as the archive has where a trace has no epochs. The same
// program gives the same numbers.
#include "cache/server/admission.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <functional>
#include <limits>
#include <list>
#include <numbers>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "cache/server/hot_ranges.h"
#include "fs/base/bytes.h"

namespace shardfs {
namespace {

constexpr std::uint64_t kUnit = 4 << 20;
constexpr std::uint64_t kSmallUnit = 64 << 10;
constexpr std::uint64_t kSector = 4096;
/// The longest read that the kernel makes of a file by default.
constexpr std::uint64_t kRequest = 128 << 10;
constexpr std::array kShares = {0.2, 0.5, 0.8};

// ---------------------------------------------------------------------------------------- traces

struct Read {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

struct Trace {
  std::string name;
  std::uint64_t archive_bytes = 0;
  std::vector<Read> reads = {};
  std::size_t counted_from = 0;  // index into reads
};

/// The units of `unit` bytes that a read touches.
struct UnitRange {
  UnitRange(const Read& read, std::uint64_t unit)
      : first(read.offset / unit), last((read.offset + read.length - 1) / unit) {}
  std::uint64_t first, last;
};

std::uint64_t units_of(const Trace& trace, std::uint64_t unit) {
  return (trace.archive_bytes + unit - 1) / unit;
}

/// Files side by side, as in an archive.
struct Layout {
  std::string name;
  std::vector<Read> files = {};
  std::uint64_t bytes = 0;

  void add(std::uint64_t size) {
    files.push_back({bytes, size});
    bytes += round_up(size, 512);
  }
};

using Random = std::mt19937_64;
using Files = std::vector<std::uint32_t>;

double fraction(Random& random) {
  return static_cast<double>(random() >> 11) / static_cast<double>(std::uint64_t{1} << 53);
}

Layout equal_files(std::string name, std::size_t count, std::uint64_t size) {
  Layout layout{.name = std::move(name)};
  for (std::size_t i = 0; i < count; ++i) layout.add(size);
  return layout;
}

/// Median 20 KB, mean 61 KB, the largest some tens of MB.
Layout mixed_files(std::string name, std::size_t count) {
  Layout layout{.name = std::move(name)};
  Random random(7);
  for (std::size_t i = 0; i < count; ++i) {
    // A standard normal number by Box and Muller, whose value no library may choose differently.
    const double normal = std::sqrt(-2 * std::log(1 - fraction(random))) *
                          std::cos(2 * std::numbers::pi * fraction(random));
    layout.add(static_cast<std::uint64_t>(20'000 * std::exp(1.5 * normal)) + 1);
  }
  return layout;
}

void shuffle(Files& files, Random& random) {
  for (std::size_t i = files.size(); i > 1; --i) std::swap(files[i - 1], files[random() % i]);
}

Files files_between(std::size_t first, std::size_t end) {
  Files files(end - first);
  std::iota(files.begin(), files.end(), static_cast<std::uint32_t>(first));
  return files;
}

Files scattered_half(const Layout& layout) {
  Files files = files_between(0, layout.files.size());
  Random random(3);
  shuffle(files, random);
  files.resize(files.size() / 2);
  return files;
}

/// Turns reads of files into reads as the kernel makes them.
class TraceWriter {
 public:
  TraceWriter(const Layout& layout, std::string name)
      : layout_(layout), trace_{.name = std::move(name), .archive_bytes = layout.bytes} {}

  void read(std::uint32_t file) {
    const auto& [offset, length] = layout_.files[file];
    for (std::uint64_t at = 0; at < length; at += kRequest)
      trace_.reads.push_back({offset + at, std::min(kRequest, length - at)});
    bytes_ += length;
  }
  void count_from_here() { trace_.counted_from = trace_.reads.size(); }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  Trace take() { return std::move(trace_); }

 private:
  const Layout& layout_;
  Trace trace_;
  std::uint64_t bytes_ = 0;
};

/// A job that reads its files `epochs` times, each time in another order.
class Job {
 public:
  Job(Files files, std::uint64_t seed) : files_(std::move(files)), random_(seed) {}

  std::uint32_t next() {
    if (at_ == 0) shuffle(files_, random_);
    const std::uint32_t file = files_[at_];
    at_ = (at_ + 1) % files_.size();
    return file;
  }
  [[nodiscard]] std::size_t epoch() const { return files_.size(); }

 private:
  Files files_;
  Random random_;
  std::size_t at_ = 0;
};

void read_epochs(TraceWriter& out, Job job, int epochs) {
  for (int epoch = 0; epoch < epochs; ++epoch) {
    if (epoch == 1) out.count_from_here();
    for (std::size_t i = 0; i < job.epoch(); ++i) out.read(job.next());
  }
}

Trace epochs(const Layout& layout, std::string name, Files files, int count) {
  TraceWriter out(layout, std::move(name));
  read_epochs(out, Job(std::move(files), 1), count);
  return out.take();
}

/// The windows end in the midst of epochs.
Trace epochs_after_part(const Layout& layout) {
  TraceWriter out(layout, "epochs, out of step");
  Job before(files_between(0, layout.files.size()), 4);
  for (std::size_t i = 0; i < before.epoch() * 2 / 5; ++i) out.read(before.next());
  read_epochs(out, Job(files_between(0, layout.files.size()), 1), 6);
  return out.take();
}

Trace interleaved(const Layout& layout, std::string name, Files a, Files b, int count) {
  TraceWriter out(layout, std::move(name));
  Job job_a(std::move(a), 1);
  Job job_b(std::move(b), 2);
  for (int epoch = 0; epoch < count; ++epoch) {
    if (epoch == 1) out.count_from_here();
    for (std::size_t i = 0; i < job_a.epoch(); ++i) {
      out.read(job_a.next());
      out.read(job_b.next());
    }
  }
  return out.take();
}

Trace one_after_another(const Layout& layout, std::string name, Files a, Files b) {
  TraceWriter out(layout, std::move(name));
  read_epochs(out, Job(std::move(a), 1), 4);
  read_epochs(out, Job(std::move(b), 2), 8);
  return out.take();
}

/// Reads as many files as chance says by `weights`, six times the archive's bytes in all.
Trace drawn(const Layout& layout, std::string name, const std::vector<double>& weights) {
  std::vector<double> upto(weights.size());
  std::partial_sum(weights.begin(), weights.end(), upto.begin());
  TraceWriter out(layout, std::move(name));
  Random random(5);
  const auto read_until = [&](std::uint64_t bytes) {
    while (out.bytes() < bytes) {
      const auto at = std::ranges::upper_bound(upto, fraction(random) * upto.back());
      out.read(static_cast<std::uint32_t>(std::min<std::ptrdiff_t>(
          at - upto.begin(), static_cast<std::ptrdiff_t>(upto.size()) - 1)));
    }
  };
  read_until(layout.bytes);
  out.count_from_here();
  read_until(6 * layout.bytes);
  return out.take();
}

/// The popular files lie anywhere in the archive.
Trace zipf(const Layout& layout, double exponent) {
  Files rank = files_between(0, layout.files.size());
  Random random(11);
  shuffle(rank, random);
  std::vector<double> weights(rank.size());
  for (std::size_t i = 0; i < rank.size(); ++i)
    weights[i] = std::pow(static_cast<double>(rank[i]) + 1, -exponent);
  return drawn(layout, fmt::format("Zipf {}", exponent), weights);
}

/// A hundred classes, the k-th of a size as 1/k, each drawn as often as any other: what a weighted
/// sampler does against imbalance. Files of a class lie together, or anywhere.
Trace weighted(const Layout& layout, std::string name, bool scattered) {
  constexpr int kClasses = 100;
  const double files = static_cast<double>(layout.files.size());
  double harmonic = 0;
  for (int k = 1; k <= kClasses; ++k) harmonic += 1.0 / k;
  std::vector<double> weights;
  for (int k = 1; k <= kClasses; ++k) {
    const auto size = static_cast<std::size_t>(std::max(files / harmonic / k, 1.0));
    weights.insert(weights.end(), size, 1.0 / static_cast<double>(size));
  }
  weights.resize(layout.files.size(), weights.front());
  if (scattered) {
    Random random(13);
    for (std::size_t i = weights.size(); i > 1; --i)
      std::swap(weights[i - 1], weights[random() % i]);
  }
  return drawn(layout, std::move(name), weights);
}

Trace in_order(const Layout& layout) {
  TraceWriter out(layout, "epochs in order");
  for (int epoch = 0; epoch < 4; ++epoch) {
    if (epoch == 1) out.count_from_here();
    for (std::uint32_t file = 0; file < layout.files.size(); ++file) out.read(file);
  }
  return out.take();
}

Trace recorded(const std::string& path, std::uint64_t archive_bytes) {
  Trace trace{.name = path, .archive_bytes = archive_bytes};
  std::ifstream in(path);
  Read read;
  std::uint64_t end = 0;
  std::uint64_t bytes = 0;
  while (in >> read.offset >> read.length) {
    if (read.length == 0) continue;
    trace.reads.push_back(read);
    end = std::max(end, read.offset + read.length);
  }
  trace.archive_bytes = std::max(archive_bytes, end);
  for (std::size_t i = 0; i < trace.reads.size() && trace.counted_from == 0; ++i)
    if ((bytes += trace.reads[i].length) >= trace.archive_bytes) trace.counted_from = i + 1;
  return trace;
}

using MakeTrace = std::function<Trace(const Layout&)>;

std::vector<MakeTrace> traces_of_tiers() {
  const auto all = [](const Layout& l) { return files_between(0, l.files.size()); };
  const auto first = [](const Layout& l) { return files_between(0, l.files.size() / 2); };
  const auto second = [](const Layout& l) {
    return files_between(l.files.size() / 2, l.files.size() / 2 * 2);
  };
  return {
      [=](const Layout& l) { return epochs(l, "shuffled epochs", all(l), 6); },
      [](const Layout& l) { return epochs_after_part(l); },
      [](const Layout& l) { return in_order(l); },
      [=](const Layout& l) { return epochs(l, "half used, together", second(l), 10); },
      [](const Layout& l) { return epochs(l, "half used, scattered", scattered_half(l), 10); },
      [=](const Layout& l) { return interleaved(l, "two jobs, all", all(l), all(l), 4); },
      [=](const Layout& l) {
        return interleaved(l, "two jobs, one half", second(l), second(l), 6);
      },
      [=](const Layout& l) {
        return interleaved(l, "two jobs, two halves", first(l), second(l), 6);
      },
      [=](const Layout& l) { return one_after_another(l, "job B after A", first(l), second(l)); },
      [](const Layout& l) { return zipf(l, 0.8); },
      [](const Layout& l) { return zipf(l, 1.0); },
      [](const Layout& l) { return weighted(l, "weighted, by class", false); },
      [](const Layout& l) { return weighted(l, "weighted, scattered", true); },
  };
}

// ---------------------------------------------------------------------------------------- caches

/// Bytes of the counted part of a trace.
struct Outcome {
  std::uint64_t read = 0, hit = 0;
  std::uint64_t fetched = 0;      // from the store
  std::uint64_t hot_written = 0;  // into the store of hot ranges

  void serve(const Read& what, bool held) {
    read += what.length;
    if (held) hit += what.length;
  }
  void fetch_alone(const Read& what) {
    const std::uint64_t begin = what.offset / kSector * kSector;
    fetched += round_up(what.offset + what.length, kSector) - begin;
  }
  [[nodiscard]] double hit_percent() const {
    return 100.0 * static_cast<double>(hit) / static_cast<double>(std::max<std::uint64_t>(read, 1));
  }
  [[nodiscard]] double fetched_per_missed() const {
    const auto missed = static_cast<double>(read - hit);
    return missed > 0 ? static_cast<double>(fetched) / missed : 0;
  }
};

template <typename Cache>
Outcome replay(const Trace& trace, Cache cache) {
  Outcome outcome;
  for (std::size_t i = 0; i < trace.reads.size(); ++i) {
    if (i == trace.counted_from) outcome = {};
    cache.read(trace.reads[i], outcome);
  }
  return outcome;
}

/// Every unit missed is fetched, the least lately used one goes.
class LruUnits {
 public:
  LruUnits(const Trace& trace, double share, std::uint64_t unit)
      : unit_(unit),
        room_(static_cast<std::uint64_t>(share * static_cast<double>(units_of(trace, unit)))),
        place_(units_of(trace, unit), order_.end()) {}

  void read(const Read& what, Outcome& outcome) {
    const UnitRange units(what, unit_);
    bool held = true;
    for (auto u = units.first; u <= units.last; ++u) held = touch(u, outcome) && held;
    outcome.serve(what, held);
  }

 private:
  bool touch(std::uint64_t unit, Outcome& outcome) {
    if (place_[unit] != order_.end()) {
      order_.splice(order_.begin(), order_, place_[unit]);
      return true;
    }
    outcome.fetched += unit_;
    if (order_.size() == room_ && room_ > 0) {
      place_[order_.back()] = order_.end();
      order_.pop_back();
    }
    if (order_.size() < room_) place_[unit] = order_.insert(order_.begin(), unit);
    return false;
  }

  std::uint64_t unit_, room_;
  std::list<std::uint64_t> order_;
  std::vector<std::list<std::uint64_t>::iterator> place_;
};

/// Knows the future: keeps the units read again soonest, and lets none in that is read later than
/// all of those.
class Belady {
 public:
  Belady(const Trace& trace, double share)
      : room_(static_cast<std::size_t>(share * static_cast<double>(units_of(trace, kUnit)))),
        next_of_(units_of(trace, kUnit), kNever),
        held_(units_of(trace, kUnit)) {
    for (auto read = trace.reads.rbegin(); read != trace.reads.rend(); ++read) {
      const UnitRange units(*read, kUnit);
      for (auto u = units.last + 1; u-- > units.first;) {
        future_.push_back(next_of_[u]);
        next_of_[u] = future_.size();
      }
    }
    // Numbered from the end so far; what is nearer to it is larger.
    touches_ = future_.size();
  }

  void read(const Read& what, Outcome& outcome) {
    const UnitRange units(what, kUnit);
    bool held = true;
    for (auto u = units.first; u <= units.last; ++u) held = touch(u, outcome) && held;
    outcome.serve(what, held);
    if (!held) outcome.fetch_alone(what);
  }

 private:
  static constexpr std::uint64_t kNever = 0;  // a touch's number counts from the end, from 1

  bool touch(std::uint64_t unit, Outcome& outcome) {
    const std::uint64_t again = future_[--touches_];
    if (held_[unit]) {
      by_next_.erase({next_of_[unit], unit});
      by_next_.insert({next_of_[unit] = again, unit});
      return true;
    }
    next_of_[unit] = again;
    if (by_next_.size() == room_ && !give_up_one_later_than(again)) return false;
    held_[unit] = true;
    by_next_.insert({again, unit});
    outcome.fetched += kUnit;
    return false;
  }
  bool give_up_one_later_than(std::uint64_t again) {
    if (by_next_.empty() || by_next_.begin()->first >= again) return false;
    held_[by_next_.begin()->second] = false;
    by_next_.erase(by_next_.begin());
    return true;
  }

  std::size_t room_;
  std::size_t touches_ = 0;             // still to come
  std::vector<std::uint64_t> future_;   // for each touch from the last to the first, the next one
  std::vector<std::uint64_t> next_of_;  // of each unit
  std::vector<bool> held_;
  std::set<std::pair<std::uint64_t, std::uint64_t>> by_next_;  // the latest first
};

struct TierOptions {
  bool replaces = true;
  bool passes = true;     // a read that goes on where the last one ended touches new units alone
  double hot_share = 0;   // of the whole budget, at most
  bool reserved = false;  // or the mirror has what the hot ranges do not take
  unsigned hot_misses = HotRanges::kMisses;
  double hot_reach = HotRanges::kReach;  // of the archive's bytes
};

/// The partial tier. While there is room it fills up in the archive's order, what a miss asks for
/// before that; afterwards it replaces by Admission alone.
class PartialTier {
 public:
  PartialTier(const Trace& trace, double share, TierOptions options = {})
      : options_(options),
        budget_(share * static_cast<double>(units_of(trace, kUnit)) * kUnit),
        units_(static_cast<Unit>(units_of(trace, kUnit))),
        admission_(units_, trace.archive_bytes),
        hot_(static_cast<std::uint64_t>(budget_ * options.hot_share),
             static_cast<std::uint64_t>(options.hot_reach *
                                        static_cast<double>(trace.archive_bytes)),
             options.hot_misses) {}

  void read(const Read& what, Outcome& outcome) {
    const UnitRange units(what, kUnit);
    const bool mirrored = all_kept(units);
    const bool hot = !mirrored && hot_.touch(key_of(what));
    outcome.serve(what, mirrored || hot);
    touch(what, units);
    if (!mirrored && !hot) miss(what, units, outcome);
  }

 private:
  static HotKey key_of(const Read& what) { return {.offset = what.offset, .length = what.length}; }
  [[nodiscard]] bool all_kept(const UnitRange& units) const {
    bool kept = true;
    for (auto u = units.first; u <= units.last; ++u)
      kept = kept && admission_.is_kept(static_cast<Unit>(u));
    return kept;
  }
  void touch(const Read& what, const UnitRange& units) {
    const bool goes_on = options_.passes && what.offset == end_of_last_ && what.offset > 0;
    for (auto u = units.first; u <= units.last; ++u) {
      const auto begin = std::max(what.offset, u * kUnit);
      const auto end = std::min(what.offset + what.length, (u + 1) * kUnit);
      const bool again = goes_on && u == (end_of_last_ - 1) / kUnit;
      admission_.touch(static_cast<Unit>(u), again ? 0 : 1, end - begin);
    }
    end_of_last_ = what.offset + what.length;
  }
  void miss(const Read& what, const UnitRange& units, Outcome& outcome) {
    outcome.fetch_alone(what);
    if (hot_.wants(key_of(what), what.length)) {
      outcome.hot_written += what.length;
      (void)hot_.insert(key_of(what), what.length);
      while (admission_.kept_units() > room()) admission_.dropped(*admission_.victim_for_space());
    }
    for (auto u = units.first; u <= units.last; ++u) offer(static_cast<Unit>(u), outcome);
  }
  /// Units that the mirror may have.
  [[nodiscard]] Unit room() const {
    const double hot =
        options_.reserved ? budget_ * options_.hot_share : static_cast<double>(hot_.bytes());
    return static_cast<Unit>((budget_ - hot) / kUnit);
  }
  void offer(Unit unit, Outcome& outcome) {
    if (admission_.kept_units() < room()) {
      keep(unit, outcome);
      stage_next(outcome);
    } else if (options_.replaces) {
      if (const auto victim = admission_.victim_for(unit)) {
        admission_.dropped(*victim);
        keep(unit, outcome);
      }
    }
  }
  void stage_next(Outcome& outcome) {
    while (staged_ < units_ && admission_.is_kept(staged_)) ++staged_;
    if (staged_ < units_ && admission_.kept_units() < room()) keep(staged_, outcome);
  }
  void keep(Unit unit, Outcome& outcome) {
    if (admission_.is_kept(unit)) return;
    admission_.kept(unit);
    outcome.fetched += kUnit;
  }

  TierOptions options_;
  double budget_;  // bytes
  Unit units_;
  Unit staged_ = 0;  // all before it are kept or were
  std::uint64_t end_of_last_ = 0;
  Admission admission_;
  HotRanges hot_;
};

// ---------------------------------------------------------------------------------------- tables

std::string cell(const Outcome& outcome) {
  return fmt::format("{:5.1f} ({:5.1f})", outcome.hit_percent(), outcome.fetched_per_missed());
}

void print_tier_head(const std::string& what) {
  fmt::print("\n{}: hit %, in brackets bytes fetched for each byte missed\n\n", what);
  fmt::print("| {:22} | {:5} | {:13} | {:13} | {:13} | {:13} | {:13} | {:13} |\n", "trace", "cache",
             "LRU 4 MiB", "LRU 64 KiB", "keep", "shardfs", "by request", "Belady");
  fmt::print("|---|--:|--:|--:|--:|--:|--:|--:|\n");
}

void print_tier_rows(const Trace& trace) {
  for (const double share : kShares) {
    fmt::print("| {:22} | {:3.0f} % | {:13} | {:13} | {:13} | {:13} | {:13} | {:13} |\n",
               trace.name, 100 * share, cell(replay(trace, LruUnits(trace, share, kUnit))),
               cell(replay(trace, LruUnits(trace, share, kSmallUnit))),
               cell(replay(trace, PartialTier(trace, share, {.replaces = false}))),
               cell(replay(trace, PartialTier(trace, share))),
               cell(replay(trace, PartialTier(trace, share, {.passes = false}))),
               cell(replay(trace, Belady(trace, share))));
  }
}

void print_tiers(const Layout& layout, const std::vector<MakeTrace>& traces) {
  print_tier_head(
      fmt::format("{}, {:.1f} GB", layout.name, static_cast<double>(layout.bytes) / 1e9));
  for (const MakeTrace& make : traces) print_tier_rows(make(layout));
}

constexpr std::array kHotShares = {0.0, 0.02, 0.05, 0.1, 0.2};

void print_hot_rows(const Trace& trace, double share, TierOptions options, std::string_view label) {
  std::string row = fmt::format("| {:22} | {:3.0f} % | {:24} |", trace.name, 100 * share, label);
  for (const double hot_share : kHotShares) {
    options.hot_share = hot_share;
    const Outcome outcome = replay(trace, PartialTier(trace, share, options));
    row += fmt::format(" {:5.1f} ({:4.1f}) |", outcome.hit_percent(),
                       100.0 * static_cast<double>(outcome.hot_written) /
                           static_cast<double>(std::max<std::uint64_t>(outcome.read, 1)));
  }
  fmt::print("{}\n", row);
}

void print_hot(const Layout& layout) {
  fmt::print(
      "\nhot ranges, {}: hit % where a share of the budget is theirs, in brackets the bytes "
      "written to their store per 100 read\n\n",
      layout.name);
  fmt::print("| trace | cache | let in at, remembered, room | 0 % | 2 % | 5 % | 10 % | 20 % |\n");
  fmt::print("|---|--:|---|--:|--:|--:|--:|--:|\n");
  for (const auto& make : std::vector<MakeTrace>{
           [](const Layout& l) { return zipf(l, 0.8); },
           [](const Layout& l) { return zipf(l, 1.0); },
           [](const Layout& l) { return weighted(l, "weighted, by class", false); },
           [](const Layout& l) { return weighted(l, "weighted, scattered", true); },
           [](const Layout& l) {
             return epochs(l, "shuffled epochs", files_between(0, l.files.size()), 5);
           }}) {
    const Trace trace = make(layout);
    for (const double share : kShares) {
      print_hot_rows(trace, share, {}, "3rd, 10 %, lent");
      print_hot_rows(trace, share, {.reserved = true}, "3rd, 10 %, reserved");
      print_hot_rows(trace, share, {.hot_misses = 2}, "2nd, 10 %, lent");
      print_hot_rows(trace, share, {.hot_reach = 10}, "3rd, all, lent");
    }
  }
}

}  // namespace
}  // namespace shardfs

int main(int argc, char** argv) {
  using namespace shardfs;
  CLI::App app("What the cache would serve of a trace of reads");
  std::string path;
  std::uint64_t archive_bytes = 0;
  app.add_option("--trace", path, "Lines \"OFFSET LENGTH\" in bytes")->check(CLI::ExistingFile);
  app.add_option("--archive-bytes", archive_bytes, "Default: the end of the last range read");
  CLI11_PARSE(app, argc, argv);
  if (!path.empty()) {
    print_tier_head("recorded");
    print_tier_rows(recorded(path, archive_bytes));
    return 0;
  }
  const Layout small = equal_files("50,000 files of 20 KB", 50'000, 20'000);
  const Layout mixed = mixed_files("50,000 files of 20 KB in the median", 50'000);
  const Layout large = equal_files("1,000 files of 6 MB", 1'000, 6'000'000);
  for (const Layout* layout : {&small, &mixed, &large}) print_tiers(*layout, traces_of_tiers());
  print_hot(small);
  print_hot(mixed);
}
