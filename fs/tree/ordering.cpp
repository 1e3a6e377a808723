// From members in archive order to entries in breadth-first order.
#include <algorithm>
#include <optional>
#include <unordered_map>

#include <fmt/format.h>

#include "fs/tree/builder_state.h"

namespace shardfs {

namespace {

constexpr std::uint32_t kNone = NumberTable::kNone;

std::unexpected<Error> invalid(std::string path, std::string_view what) {
  return fail(ErrorKind::Invalid, fmt::format("{}: {}", path, what));
}

/// Records by the directory they are in, in each sorted by name and then by number.
class Groups {
 public:
  explicit Groups(BuilderState& state);

  [[nodiscard]] std::span<std::uint32_t> of(std::uint32_t directory) {
    return std::span(records_).subspan(begins_[directory],
                                       begins_[directory + 1] - begins_[directory]);
  }
  /// The records called `name` in `directory`.
  [[nodiscard]] std::span<std::uint32_t> named(std::uint32_t directory, std::string_view name);

 private:
  void sort(std::span<std::uint32_t> group);
  [[nodiscard]] bool before(std::uint32_t a, std::uint32_t b) const;

  BuilderState& state_;
  std::vector<std::uint64_t> begins_;  ///< by directory, and one more
  std::vector<std::uint32_t> records_;
};

/// Calls visit(record number, record) for all but the root and replaced directories.
template <typename Visit>
void each_name(const BuilderState& state, Visit&& visit) {
  const std::uint32_t root = state.directories[0].record;
  std::uint32_t number = 0;
  for (const Record& record : state.records) {
    if (number != root && !record.replaced) visit(number, record);
    ++number;
  }
}

Groups::Groups(BuilderState& state) : state_(state), begins_(state.directories.size() + 1) {
  each_name(state, [&](std::uint32_t, const Record& r) { ++begins_[r.directory + 1]; });
  for (std::size_t i = 1; i < begins_.size(); ++i) begins_[i] += begins_[i - 1];
  records_.resize(begins_.back());
  // Filling moves each begin to its group's end, that is to the next one's begin.
  each_name(state, [&](std::uint32_t n, const Record& r) { records_[begins_[r.directory]++] = n; });
  begins_.insert(begins_.begin(), 0);
  begins_.pop_back();
  for (std::uint32_t d = 0; d < state.directories.size(); ++d) sort(of(d));
}

bool Groups::before(std::uint32_t a, std::uint32_t b) const {
  const int order = state_.records[a].text().compare(state_.records[b].text());
  return order != 0 ? order < 0 : a < b;
}

void Groups::sort(std::span<std::uint32_t> group) {
  const auto less = [this](std::uint32_t a, std::uint32_t b) { return before(a, b); };
  if (!std::ranges::is_sorted(group, less)) std::ranges::sort(group, less);
}

std::span<std::uint32_t> Groups::named(std::uint32_t directory, std::string_view name) {
  const auto group = of(directory);
  const auto found = std::ranges::equal_range(
      group, name, {}, [this](std::uint32_t n) { return state_.records[n].text(); });
  return {found.begin(), found.end()};
}

/// Gives made-up directories records of their own.
void complete_directories(BuilderState& state) {
  for (std::uint32_t d = 0; d < state.directories.size(); ++d) {
    DirectoryRecord& directory = state.directories[d];
    if (directory.record != kNone) continue;
    directory.record = static_cast<std::uint32_t>(state.records.size());
    Record& record = state.records.emplace_back();
    record.name = directory.name;
    record.name_size = directory.name_size;
    record.directory = directory.parent;
    record.tuple = directory.tuple;
    record.seconds = directory.mtime.seconds;
    record.nanoseconds = directory.mtime.nanoseconds;
    record.position = Record::kNoPosition;
    record.target = d;
  }
}

/// Of two or more records with one path marks all but the last as replaced.
Result<void> settle(BuilderState& state, std::uint32_t members, std::span<std::uint32_t> same) {
  const auto is_directory = [&](std::uint32_t n) { return state.is_directory(state.records[n]); };
  std::uint32_t winner = same.back();
  const auto directory = std::ranges::find_if(same, is_directory);
  const bool clash = is_directory(winner)
                         ? winner >= members  // made up for what is in it
                         : directory != same.end() &&
                               state.directories[state.records[*directory].target].has_children;
  if (clash) {
    auto problem =
        invalid(state.path(state.records[winner]), "members lie in it, but it is not a directory");
    if (!state.note_left_out) return problem;
    state.note_left_out(problem.error().message);
    winner = state.directories[state.records[*directory].target].record;
  }
  for (const std::uint32_t number : same) state.records[number].replaced = number != winner;
  return {};
}

Result<void> settle_all(BuilderState& state, std::uint32_t members, Groups& groups) {
  for (std::uint32_t d = 0; d < state.directories.size(); ++d) {
    const auto group = groups.of(d);
    for (std::size_t i = 0; i + 1 < group.size();) {
      const std::string_view name = state.records[group[i]].text();
      std::size_t end = i + 1;
      while (end < group.size() && state.records[group[end]].text() == name) ++end;
      if (end - i > 1) SHARDFS_CHECK(settle(state, members, group.subspan(i, end - i)));
      i = end;
    }
  }
  return {};
}

/// Leads hard links to the records whose inodes they share.
class LinkResolver {
 public:
  LinkResolver(BuilderState& state, Groups& groups) : state_(state), groups_(groups) {}

  Result<void> resolve_all();

 private:
  [[nodiscard]] Result<std::uint32_t> follow(std::uint32_t link);
  [[nodiscard]] Result<std::uint32_t> target_of(std::uint32_t link);
  void attach(std::uint32_t link, std::uint32_t target);
  [[nodiscard]] std::unexpected<Error> invalid_link(std::uint32_t link, std::string_view what);

  BuilderState& state_;
  Groups& groups_;
  std::unordered_map<std::uint32_t, std::uint32_t> heirs_;
};

std::unexpected<Error> LinkResolver::invalid_link(std::uint32_t link, std::string_view what) {
  const Record& record = state_.records[link];
  const std::string_view to = as_text(state_.links[static_cast<std::uint32_t>(record.target)]);
  return invalid(state_.path(record), fmt::format("hard link to {}, {}", to, what));
}

Result<void> LinkResolver::resolve_all() {
  for (std::uint32_t n = 0; n < state_.records.size(); ++n) {
    if (!state_.records[n].is_hard_link() || state_.records[n].replaced) continue;
    const auto target = follow(n);
    if (target) {
      attach(n, *target);
    } else if (state_.note_left_out) {
      state_.note_left_out(target.error().message);
      state_.records[n].replaced = true;
    } else {
      return std::unexpected(target.error());
    }
  }
  return {};
}

// Each link is passed once: what it leads to is kept in it.
Result<std::uint32_t> LinkResolver::follow(std::uint32_t link) {
  std::vector<std::uint32_t> passed;
  std::uint32_t at = link;
  while (state_.records[at].is_hard_link() && !state_.records[at].resolved) {
    if (state_.records[at].visited) return invalid_link(at, "which leads back to itself");
    state_.records[at].visited = true;
    passed.push_back(at);
    SHARDFS_TRY(at, target_of(at));
  }
  if (state_.records[at].is_hard_link()) at = static_cast<std::uint32_t>(state_.records[at].target);
  if (state_.is_directory(state_.records[at])) return invalid_link(link, "a directory");
  for (const std::uint32_t n : passed) {
    state_.records[n].target = at;
    state_.records[n].resolved = true;
  }
  return at;
}

// As tar does: the member that had the path when the link was made. Some archives have the link
// first.
Result<std::uint32_t> LinkResolver::target_of(std::uint32_t link) {
  const std::string_view path =
      as_text(state_.links[static_cast<std::uint32_t>(state_.records[link].target)]);
  const std::size_t slash = path.rfind('/');
  const std::uint32_t directory =
      path.empty() ? kNone : state_.find_directory(path.substr(0, slash == path.npos ? 0 : slash));
  std::optional<std::uint32_t> earlier, later;
  if (directory != kNone)
    for (const std::uint32_t n : groups_.named(directory, path.substr(slash + 1))) {
      if (n < link) earlier = n;
      if (n > link && !later) later = n;
    }
  if (!earlier && !later) return invalid_link(link, "which is not in the archive");
  return earlier ? *earlier : *later;
}

// A file whose own path was given to another member lives on under the first link to it.
void LinkResolver::attach(std::uint32_t link, std::uint32_t target) {
  if (!state_.records[target].replaced) return;
  const auto [heir, is_first] = heirs_.emplace(target, link);
  if (!is_first) {
    state_.records[link].target = heir->second;
    return;
  }
  Record record = state_.records[target];
  record.name = state_.records[link].name;
  record.name_size = state_.records[link].name_size;
  record.directory = state_.records[link].directory;
  record.replaced = false;
  state_.records[target].size = 0;  // the data are the heir's now
  state_.records[link] = record;
}

/// Numbers the entries breadth-first.
Result<Ordered> number_entries(BuilderState& state, Groups& groups) {
  Ordered ordered;
  ordered.entry_of.assign(state.records.size(), Ordered::kNoEntry);
  ordered.record_of.reserve(state.records.size());
  const auto take = [&](std::uint32_t number) {
    ordered.entry_of[number] = static_cast<std::uint32_t>(ordered.record_of.size());
    ordered.record_of.push_back(number);
    if (state.is_directory(state.records[number])) ordered.directories.push_back(number);
  };
  take(state.directories[0].record);
  for (std::size_t i = 0; i < ordered.directories.size(); ++i) {
    const Record& directory = state.records[ordered.directories[i]];
    for (const std::uint32_t number : groups.of(static_cast<std::uint32_t>(directory.target)))
      if (!state.records[number].replaced) take(number);
  }
  return ordered;
}

}  // namespace

Result<Ordered> order_entries(BuilderState& state) {
  const auto members = static_cast<std::uint32_t>(state.records.size());
  complete_directories(state);
  Groups groups(state);
  SHARDFS_CHECK(settle_all(state, members, groups));
  SHARDFS_CHECK(LinkResolver(state, groups).resolve_all());
  return number_entries(state, groups);
}

}  // namespace shardfs
