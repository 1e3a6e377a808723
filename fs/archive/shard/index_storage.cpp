#include "fs/archive/shard/index_storage.h"

#include <algorithm>
#include <optional>
#include <system_error>
#include <thread>

namespace shardfs {

namespace {

/// One request for this much: a run of 28 chunks is four of them, and requests of some MiB are what
/// parallel file systems serve best.
constexpr std::uint64_t kChunksPerRequest = 7;
constexpr std::uint64_t kRequest = kChunksPerRequest * kIndexChunkBytes;
static_assert(kHeadersInRow % kChunksPerRequest == 0, "a request lies in one run");

class PlainIndex final : public IndexStorage {
 public:
  PlainIndex(const ByteSource& source, std::uint64_t position, std::uint64_t size)
      : source_(source), position_(position), size_(size) {}

  std::uint64_t size() const override { return size_; }
  Result<void> read(std::uint64_t offset, std::span<std::byte> out) const override {
    return source_.read_at(position_ + offset, out);
  }

 private:
  const ByteSource& source_;
  std::uint64_t position_;
  std::uint64_t size_;
};

/// A part of one chunk: plain bytes [begin, end) of it.
struct Part {
  std::uint64_t chunk = 0, begin = 0, end = 0;
};

class IndexInRuns final : public IndexStorage {
 public:
  IndexInRuns(const ByteSource& source, IndexRuns runs) : source_(source), runs_(std::move(runs)) {}

  std::uint64_t size() const override { return runs_.index_size(); }
  Result<void> read(std::uint64_t offset, std::span<std::byte> out) const override;

 private:
  [[nodiscard]] Part part_at(std::uint64_t offset, std::uint64_t end) const;
  [[nodiscard]] IndexRuns::Range place(const Part& part) const;
  [[nodiscard]] Result<std::uint64_t> read_some(std::uint64_t offset, std::span<std::byte> out,
                                                std::span<std::byte> buffer) const;

  const ByteSource& source_;
  IndexRuns runs_;
};

Part IndexInRuns::part_at(std::uint64_t offset, std::uint64_t end) const {
  const std::uint64_t chunk = offset / kIndexChunkBytes;
  const std::uint64_t start = chunk * kIndexChunkBytes;
  return {chunk, offset - start, std::min(end - start, runs_.chunk_size(chunk))};
}

/// Where the escape units that hold a part lie in the archive.
IndexRuns::Range IndexInRuns::place(const Part& part) const {
  const std::uint64_t first = part.begin / kEscapeUnit * kEscapeUnit;
  const std::uint64_t last =
      std::min(round_up(part.end, kEscapeUnit), runs_.chunk_size(part.chunk));
  return {runs_.value(part.chunk).position + escaped_size(first), escaped_size(last - first)};
}

void undo(ByteSpan escaped, const Part& part, std::span<std::byte> out) {
  const std::uint64_t skip = part.begin % kEscapeUnit;
  const std::uint64_t units = (escaped.size() + kEscapeUnit) / (kEscapeUnit + 1);
  const std::uint64_t plain_size = escaped.size() - units;
  if (skip == 0 && plain_size == out.size()) return unescape(escaped, out);
  Bytes plain(plain_size);
  unescape(escaped, plain);
  std::ranges::copy(ByteSpan(plain).subspan(skip, out.size()), out.begin());
}

/// One request, of chunks of one run. Returns how many of `out` are filled.
Result<std::uint64_t> IndexInRuns::read_some(std::uint64_t offset, std::span<std::byte> out,
                                             std::span<std::byte> buffer) const {
  const std::uint64_t end = std::min(offset + out.size(), (offset / kRequest + 1) * kRequest);
  const IndexRuns::Range first = place(part_at(offset, end));
  const Part last_part =
      part_at(std::max(offset, (end - 1) / kIndexChunkBytes * kIndexChunkBytes), end);
  const IndexRuns::Range last = place(last_part);
  const auto raw = buffer.first(last.position + last.size - first.position);
  SHARDFS_CHECK(source_.read_at(first.position, raw));
  for (std::uint64_t at = offset; at < end;) {
    const Part part = part_at(at, end);
    const IndexRuns::Range from = place(part);
    const std::uint64_t size = part.end - part.begin;
    undo(raw.subspan(from.position - first.position, from.size), part,
         out.subspan(at - offset, size));
    at += size;
  }
  return end - offset;
}

Result<void> IndexInRuns::read(std::uint64_t offset, std::span<std::byte> out) const {
  const std::uint64_t chunks = std::min(kChunksPerRequest, out.size() / kIndexChunkBytes + 2);
  PageBuffer buffer(chunks * IndexRuns::header_size(kIndexChunkBytes));
  while (!out.empty()) {
    SHARDFS_TRY(const std::uint64_t done, read_some(offset, out, buffer));
    offset += done;
    out = out.subspan(done);
  }
  return {};
}

}  // namespace

std::unique_ptr<IndexStorage> plain_index(const ByteSource& source, std::uint64_t position,
                                          std::uint64_t size) {
  return std::make_unique<PlainIndex>(source, position, size);
}

std::unique_ptr<IndexStorage> index_in_runs(const ByteSource& source, IndexRuns runs) {
  return std::make_unique<IndexInRuns>(source, std::move(runs));
}

Result<PageBuffer> read_index(const IndexStorage& storage, std::uint64_t offset,
                              std::uint64_t size) {
  PageBuffer bytes(size);
  const std::span<std::byte> all(bytes);
  // The second half begins with a whole chunk.
  const std::uint64_t middle = round_up(offset + size / 2, kIndexChunkBytes);
  Result<void> second;
  std::jthread other;
  std::size_t first = size;
  if (size > kRequest) {
    try {
      other = std::jthread([&] { second = storage.read(middle, all.subspan(middle - offset)); });
      first = middle - offset;
    } catch (const std::system_error&) {
      // A limit of threads is reached: this one reads all.
    }
  }
  SHARDFS_CHECK(storage.read(offset, all.first(first)));
  if (other.joinable()) other.join();
  SHARDFS_CHECK(second);
  return bytes;
}

}  // namespace shardfs
