#include "tools/mkshard/directory_source.h"

#include <atomic>
#include <thread>
#include <unordered_map>
#include <utility>

#include <dirent.h>

#include "tools/common/interrupt.h"
#include "tools/mkshard/entry_reader.h"
#include "tools/mkshard/large_file.h"
#include "tools/mkshard/order.h"
#include "tools/mkshard/ordered_pool.h"
#include "tools/mkshard/walk.h"

namespace shardfs {
namespace {

// Names a job: enough that handing jobs over costs little, few enough that many threads have work
// and that the whole files of one job (16 × 4 MiB) stay bearable.
constexpr std::size_t kBatch = 16;
constexpr unsigned kMaxChunkThreads = 4;

/// A name that a worker is to read.
struct Wanted {
  std::string name;
  unsigned char type = DT_UNKNOWN;
};

struct Batch {
  double fraction = -1;  ///< of the source that is done once this batch is
  std::vector<FoundEntry> entries;
};

using EntryPool = OrderedPool<Batch>;

/// Collects the names that the walk finds into jobs.
class Feeder final : public Visitor {
 public:
  Feeder(EntryPool& pool, const EntryReader& reader) : pool_(pool), reader_(reader) {}

  bool visit(const DirectoryRef& directory, std::string_view name, unsigned char type,
             double fraction) override {
    if (directory != directory_ && !flush()) return false;
    directory_ = directory;
    fraction_ = fraction;
    wanted_.push_back({std::string(name), type});
    return Interrupt::signal() == 0 && (wanted_.size() < kBatch || flush());
  }

  bool failed(const std::string& path, Error error) override {
    if (!flush()) return false;
    FoundEntry entry;
    entry.member.path = path;
    entry.failure = std::move(error);
    return pool_.submit(
        [entry = std::move(entry), fraction = fraction_](EntryPool::Claim&) mutable {
          Batch batch{fraction, {}};
          batch.entries.push_back(std::move(entry));
          return batch;
        });
  }

  bool flush() {
    if (wanted_.empty()) return true;
    // Not `this`: the pool may still run a job when the feeder is gone; its reader outlives both.
    return pool_.submit([&reader = reader_, directory = directory_,
                         wanted = std::exchange(wanted_, {}),
                         fraction = fraction_](EntryPool::Claim& claim) {
      Batch batch{fraction, {}};
      batch.entries.reserve(wanted.size());
      const auto reserve = [&](std::uint64_t bytes) { claim.reserve(bytes); };
      for (const Wanted& one : wanted) {
        batch.entries.push_back(reader.read(directory, one.name, one.type, reserve));
      }
      return batch;
    });
  }

 private:
  EntryPool& pool_;
  const EntryReader& reader_;
  DirectoryRef directory_;
  std::vector<Wanted> wanted_;
  double fraction_ = 0;
};

/// Collects the names of a walk; failures pass to `feeder` at once.
class Collector final : public Visitor {
 public:
  Collector(PathList& list, Feeder& feeder) : list_(list), feeder_(feeder) {}
  bool visit(const DirectoryRef& directory, std::string_view name, unsigned char type,
             double) override {
    list_.add(directory, name, type);
    return !stop_ && Interrupt::signal() == 0;
  }
  bool failed(const std::string& path, Error error) override {
    return feeder_.failed(path, std::move(error));
  }
  void stop() { stop_ = true; }

 private:
  PathList& list_;
  Feeder& feeder_;
  std::atomic<bool> stop_ = false;
};

class DirectorySource final : public MemberSource {
 public:
  DirectorySource(DirectoryRef root, DirectorySourceOptions options, std::optional<Selection> files)
      : options_(std::move(options)),
        root_(std::move(root)),
        excludes_(std::move(options_.excludes)),
        files_(std::move(files)),
        reader_({options_.ignore_failed_read, options_.left_out}),
        entries_(options_.threads, kMaxJobs, kReadAhead),
        chunks_(std::min(options_.threads, kMaxChunkThreads), 16, kReadAhead),
        feeder_(entries_, reader_),
        collector_(list_, feeder_),
        walker_([this] { produce(); }) {}

  ~DirectorySource() override {
    collector_.stop();
    entries_.cancel();
    chunks_.cancel();
    walker_.join();
  }

  Result<std::optional<Item>> next() override;
  void prepare_for(Container container) override { reader_.prepare_for(container); }
  double fraction() const override { return batch_.fraction; }

 private:
  void produce();
  void produce_all();
  void produce_ordered();
  bool feed(const std::vector<PathList::Item>& items, double total);
  Result<std::optional<Item>> next_of_large();
  Result<std::optional<Item>> take(FoundEntry entry);
  Result<Skipped> give_up(const std::string& path, Error error) const;
  std::optional<Item> take_link(FoundEntry& entry);
  Result<std::optional<Item>> open_large(FoundEntry entry);

  /// Names of inodes with several: the first one, and how many are still to come.
  struct FirstName {
    FirstName(const FoundEntry& entry)
        : path(entry.member.path),
          size(entry.version.size),
          mtime(entry.version.mtime),
          left(entry.links - 1) {}
    [[nodiscard]] bool is_of_same_file(const FoundEntry& entry) const {
      return size == entry.version.size && mtime == entry.version.mtime;
    }

    std::string path;
    std::uint64_t size = 0;
    Time mtime;
    std::uint64_t left = 0;
  };
  struct HashInode {
    std::size_t operator()(const InodeKey& key) const {
      return std::hash<std::uint64_t>()(key.inode * 0x9E3779B97F4A7C15 ^ key.device);
    }
  };

  DirectorySourceOptions options_;
  const DirectoryRef root_;
  const Excludes excludes_;
  const std::optional<Selection> files_;
  EntryReader reader_;
  EntryPool entries_;
  ChunkPool chunks_;
  PathList list_;  ///< the walker's, unless the order is by name
  Feeder feeder_;
  Collector collector_;
  std::optional<Error> produce_error_;  ///< set before entries_ is closed
  // The consumer's:
  Batch batch_;
  std::size_t in_batch_ = 0;
  std::unique_ptr<LargeFile> large_;
  std::unordered_map<InodeKey, FirstName, HashInode> first_names_;
  std::thread walker_;
};

void DirectorySource::produce() {
  try {
    produce_all();
  } catch (...) {
    entries_.fail(std::current_exception());
  }
}

void DirectorySource::produce_all() {
  const Selection* files = files_ ? &*files_ : nullptr;
  if (std::holds_alternative<OrderByName>(options_.order)) {
    walk(root_, excludes_, files, feeder_);
    feeder_.flush();
  } else {
    walk(root_, excludes_, files, collector_);
    produce_ordered();
  }
  entries_.close();
}

void DirectorySource::produce_ordered() {
  if (const auto* shuffled = std::get_if<OrderShuffled>(&options_.order)) {
    shuffle(list_, shuffled->seed);
  } else if (const auto sorted = sort_as_listed(list_, options_.order_list); !sorted) {
    produce_error_ = sorted.error();
    return;
  }
  // Of few files one may be most of it: then no part of them says how much is done.
  constexpr std::size_t kMany = 1000;
  const std::size_t items = list_.directories.size() + list_.others.size();
  const double total = items < kMany ? 0 : static_cast<double>(items);
  if (feed(list_.directories, total) && feed(list_.others, total)) feeder_.flush();
}

bool DirectorySource::feed(const std::vector<PathList::Item>& items, double total) {
  const double before = &items == &list_.others ? static_cast<double>(list_.directories.size()) : 0;
  for (std::size_t i = 0; i < items.size(); ++i) {
    const double done = total > 0 ? (before + static_cast<double>(i)) / total : -1;
    if (!feeder_.visit(root_, list_.path(items[i]), items[i].type, done)) return false;
  }
  return true;
}

Result<std::optional<Item>> DirectorySource::next() {
  while (true) {
    if (large_) {
      SHARDFS_TRY(auto item, next_of_large());
      if (item) return item;
    }
    if (in_batch_ == batch_.entries.size()) {
      auto popped = entries_.pop();
      if (!popped && produce_error_) return std::unexpected(*produce_error_);
      if (!popped) return std::nullopt;
      batch_ = std::move(*popped);
      in_batch_ = 0;
      continue;
    }
    FoundEntry& entry = batch_.entries[in_batch_];
    if (!entry.left_out && !entry.notice.empty()) return Notice{std::exchange(entry.notice, {})};
    ++in_batch_;
    SHARDFS_TRY(auto item, take(std::move(entry)));
    if (item) return item;
  }
}

/// The next chunk, or what is to be said at the end; nothing if there is nothing to say.
Result<std::optional<Item>> DirectorySource::next_of_large() {
  SHARDFS_TRY(auto chunk, large_->next());
  if (chunk) return FileData{std::move(*chunk)};
  const auto file = std::move(large_);
  const auto unchanged = file->check_unchanged();
  if (unchanged) return std::nullopt;
  SHARDFS_TRY(Skipped changed, give_up(file->path(), unchanged.error()));
  changed.text += "; packed as it was read";
  return changed;
}

/// Nothing if `entry` is not packed and nobody needs to know.
Result<std::optional<Item>> DirectorySource::take(FoundEntry entry) {
  if (entry.failure) return give_up(entry.member.path, std::move(*entry.failure));
  if (entry.left_out) return Notice{std::move(entry.notice)};
  if (entry.linked) {
    if (auto link = take_link(entry)) return link;
  }
  if (entry.large) return open_large(std::move(entry));
  return WholeMember{std::move(entry.member), std::move(entry.payload), entry.prepared};
}

/// What --ignore-failed-read makes of a failure; without it, the failure with its remedy.
Result<Skipped> DirectorySource::give_up(const std::string& path, Error error) const {
  // "PATH: WHAT" comes from below; the path is told apart from the text for the list of skipped
  // files.
  std::string text = error.message.starts_with(path + ": ") ? error.message.substr(path.size() + 2)
                                                            : error.message;
  if (options_.ignore_failed_read) return Skipped{path, error.sys_errno, std::move(text)};
  error.message = (path.empty() ? "." : path) + ": " + text + kReadRemedy;
  return std::unexpected(std::move(error));
}

/// A hard link if the inode has been packed already; otherwise nothing, and the name is remembered.
std::optional<Item> DirectorySource::take_link(FoundEntry& entry) {
  const auto [at, first] = first_names_.try_emplace(entry.version.inode, entry);
  if (first) return std::nullopt;
  // The number of a file that has been removed meanwhile may be another's by now.
  if (!at->second.is_of_same_file(entry)) {
    at->second = FirstName(entry);
    return std::nullopt;
  }
  Member link;
  link.path = std::move(entry.member.path);
  link.mode = S_IFREG | (entry.member.mode & 07777);
  link.uid = entry.member.uid;
  link.gid = entry.member.gid;
  link.mtime = entry.member.mtime;
  link.hard_link = true;
  link.link = at->second.path;
  if (--at->second.left == 0) first_names_.erase(at);
  return WholeMember{std::move(link), {}, true};
}

Result<std::optional<Item>> DirectorySource::open_large(FoundEntry entry) {
  auto file = LargeFile::open(entry, chunks_);
  if (!file) {
    first_names_.erase(entry.version.inode);
    return give_up(entry.member.path, std::move(file).error());
  }
  large_ = std::move(*file);
  return BegunMember{std::move(entry.member)};
}

}  // namespace

Result<std::unique_ptr<MemberSource>> open_directory_source(const std::string& directory,
                                                            DirectorySourceOptions options) {
  SHARDFS_TRY(DirectoryRef root, open_root(directory));
  std::optional<Selection> selection;
  if (options.files) {
    SHARDFS_TRY(selection, Selection::create(*options.files));
  }
  return std::make_unique<DirectorySource>(std::move(root), std::move(options),
                                           std::move(selection));
}

}  // namespace shardfs
