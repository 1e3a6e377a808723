#include "tests/fuzz/serve.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "fs/archive/open.h"
#include "fs/archive/shard/reader.h"
#include "tests/fuzz/memory_source.h"

namespace shardfs {

namespace {

/// An archive of a few KiB can claim billions of entries; more than these add nothing.
constexpr Entry kMaxEntries = 4096;

#define PROMISE(condition)                                                         \
  do {                                                                             \
    if (!(condition)) {                                                            \
      std::fprintf(stderr, "broken promise, line %d: %s\n", __LINE__, #condition); \
      std::abort();                                                                \
    }                                                                              \
  } while (false)

template <typename T>
bool good(const Result<T>& result) {
  PROMISE(result || !result.error().message.empty());
  return result.has_value();
}

/// Asks an archive for everything, and compares what it answers in one way with what in another.
class Asker {
 public:
  /// Stops reading after about `most` bytes.
  Asker(const Archive& archive, std::uint64_t most, bool true_holes)
      : archive_(archive), tree_(archive.tree()), left_(most), true_holes_(true_holes) {}

  void ask() {
    PROMISE(tree_.entries() > 0);
    const auto entries = static_cast<Entry>(std::min<std::uint64_t>(tree_.entries(), kMaxEntries));
    for (Entry entry = 0; entry < entries; ++entry) ask_everything(entry);
    (void)archive_.info();
    (void)archive_.notes();
  }
  /// Some file could not be read.
  [[nodiscard]] bool damaged() const { return damaged_; }

 private:
  void ask_everything(Entry entry);
  void list(Entry directory);
  void read_file(Entry inode, std::uint64_t size);
  void read_window(Entry inode, std::uint64_t size);
  void compare_extents(Entry inode, std::uint64_t size);
  void compare_holes(Entry inode, std::uint64_t size);
  [[nodiscard]] std::optional<Bytes> read(Entry inode, std::uint64_t offset, std::size_t size);

  const Archive& archive_;
  const Tree& tree_;
  std::uint64_t left_;
  bool true_holes_;
  bool damaged_ = false;
};

std::optional<Bytes> Asker::read(Entry inode, std::uint64_t offset, std::size_t size) {
  Bytes buffer(size);
  const auto got = archive_.read(inode, offset, buffer, nullptr);
  if (!good(got)) return std::nullopt;
  PROMISE(*got <= size);
  buffer.resize(*got);
  return buffer;
}

void Asker::read_file(Entry inode, std::uint64_t size) {
  Bytes buffer(96 * 1024);
  for (const std::uint64_t offset : {std::uint64_t{0}, size / 2, size, size + 1}) {
    if (left_ == 0) return;
    std::shared_ptr<const DecodedBlock> block;
    const auto got = archive_.read(inode, offset, buffer, &block);
    left_ -= std::min<std::uint64_t>(left_, block ? block->bytes.size() + 1 : got.value_or(0) + 1);
    damaged_ = damaged_ || !got;
    if (!good(got)) continue;
    PROMISE(*got == std::min<std::uint64_t>(buffer.size(), size - std::min(size, offset)));
    if (block == nullptr) continue;
    const auto whole = archive_.contents_in(*block, inode);
    PROMISE(!whole || whole->size() == size);
    PROMISE(!whole || offset != 0 || *got != size ||
            std::ranges::equal(*whole, ByteSpan(buffer).first(size)));
  }
}

/// What a window holds is what a read gives.
void Asker::read_window(Entry inode, std::uint64_t size) {
  constexpr std::uint64_t kWindow = 1024 * 1024;
  if (size == 0 || size > Archive::kWindowTail || left_ == 0) return;
  DecodedBlock window;
  if (!good(archive_.window(inode, kWindow, window))) return;
  left_ -= std::min<std::uint64_t>(left_, window.bytes.size());
  if (!archive_.holds(window, inode)) return;
  const auto whole = archive_.contents_in(window, inode);
  const auto alone = read(inode, 0, size);
  PROMISE(!whole || !alone || std::ranges::equal(*whole, *alone));
}

/// Stored bytes of a file are those of the archive, where it says.
void Asker::compare_extents(Entry inode, std::uint64_t size) {
  const auto extents = archive_.extents(inode);
  if (!good(extents)) return;
  std::uint64_t at = 0;
  for (const Extent& extent : *extents) {
    PROMISE(extent.decoded <= size - at);
    const auto compared = std::min<std::uint64_t>({extent.decoded, 4096, left_});
    if (extent.stored && compared > 0) {
      PROMISE(extent.length == extent.decoded);
      Bytes there(compared);
      const bool readable = archive_.source().read_at(extent.offset, there).has_value();
      const auto given = read(inode, at, compared);
      PROMISE(!given || (readable && std::ranges::equal(*given, there)));
      left_ -= compared;
    }
    at += extent.decoded;
  }
  PROMISE(at == size);
}

/// Holes follow one another, and are read as zeros.
void Asker::compare_holes(Entry inode, std::uint64_t size) {
  const auto holes = tree_.holes(inode);
  if (!good(holes)) return;
  std::uint64_t at = 0;
  for (const Hole& hole : *holes) {
    PROMISE(hole.offset >= at && hole.offset <= size && hole.length <= size - hole.offset);
    at = hole.offset + hole.length;
    const auto compared = std::min<std::uint64_t>({hole.length, 4096, left_});
    const auto given = read(inode, at - compared, compared);
    PROMISE(!given || std::ranges::count(*given, std::byte{0}) == static_cast<long>(compared));
    left_ -= compared;
  }
}

/// A name that a listing gives is one that lookup() finds.
void Asker::list(Entry directory) {
  Entry next = 0;
  const auto range = tree_.child_range(directory);
  if (!good(range)) return;
  std::uint32_t seen = 0;
  const auto listed = tree_.children(directory, 0, [&](Entry child, std::string_view name) {
    PROMISE(seen == 0 || child == next);
    PROMISE(!name.empty() && name.find('/') == name.npos);
    next = child + 1;
    if (const auto found = tree_.lookup(directory, name); good(found))
      PROMISE(*found <= tree_.entries());
    return ++seen < kMaxEntries;
  });
  if (good(listed)) PROMISE(seen <= range->count);
}

void Asker::ask_everything(Entry entry) {
  PROMISE(tree_.parent(entry) < tree_.entries());
  (void)good(tree_.path(entry));
  (void)good(tree_.link(entry));
  (void)good(tree_.xattrs(entry));
  (void)good(tree_.holes(entry));
  (void)good(tree_.position(entry));
  list(entry);
  const auto inode = tree_.inode(entry);
  if (!good(inode)) return;
  PROMISE(*inode < tree_.entries());
  const auto attributes = tree_.attributes(entry);
  if (!good(attributes)) return;
  const std::uint64_t size = tree_.file_size(*inode);
  read_file(*inode, size);
  read_window(*inode, size);
  compare_extents(*inode, size);
  if (true_holes_) compare_holes(*inode, size);
}

/// `true_holes`: the index was made here, so what it says of holes is so.
void serve_foreign(ByteSpan bytes, const ForeignOptions& options, bool true_holes) {
  constexpr std::uint64_t kMost = 8 * 1024 * 1024;
  const auto archive = open_archive(std::make_shared<MemorySource>(bytes), options);
  if (!good(archive)) return;
  Asker asker(**archive, kMost, true_holes);
  asker.ask();
  std::uint64_t left = kMost;
  const auto report = (*archive)->verify(1, [&](std::uint64_t checked) {
    left -= std::min(left, checked);
    return left > 0;
  });
  if (good(report)) PROMISE(!report->ok() || !asker.damaged());
}

}  // namespace

void serve(ByteSpan bytes) {
  const auto archive = open_shard(std::make_unique<MemorySource>(bytes));
  if (!good(archive)) return;
  Asker(**archive, UINT64_MAX, false).ask();
  const auto report = (*archive)->verify(1, [](std::uint64_t) { return true; });
  if (good(report)) PROMISE(!report->ok() || report->checked_bytes == bytes.size());
}

void serve_sound(ByteSpan bytes) {
  const auto archive = open_shard(std::make_unique<MemorySource>(bytes));
  PROMISE(archive);
  const auto report = (*archive)->verify(1, [](std::uint64_t) { return true; });
  PROMISE(report && report->ok());
  serve(bytes);
}

void serve_any(ByteSpan bytes) { serve_foreign(bytes, {}, true); }

void serve_by_index(ByteSpan bytes, const std::string& path) {
  ForeignOptions options;
  options.index_files = [path] { return IndexFiles{{path}, {}}; };
  serve_foreign(bytes, options, false);
}

}  // namespace shardfs
