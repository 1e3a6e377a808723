#include "cache/client/cached_source.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

namespace shardfs {

namespace {

std::size_t slot_of(std::uint64_t place) {
  return (place * 0x9E3779B97F4A7C15U) >> 58;  // Fibonacci hashing, to 6 bits
}

bool is_gone(const Error& error) { return error.kind == ErrorKind::NotFound; }

/// The server could not open the archive, which may be otherwise in a while: no room, or too much
/// else to do.
bool may_pass(const Error& error) {
  constexpr int kPassing[] = {ETIMEDOUT, EMFILE, ENFILE, ENOMEM, EAGAIN};
  return error.kind == ErrorKind::NoSpace ||
         (error.kind == ErrorKind::Io && std::ranges::count(kPassing, error.sys_errno) > 0);
}

/// The server has said so, and its connection is as good as before.
bool is_an_answer(const Error& error) {
  return error.kind == ErrorKind::Corrupt ||
         (error.kind == ErrorKind::Io && error.sys_errno != ETIMEDOUT);
}

}  // namespace

CachedSource::CachedSource(std::unique_ptr<FileSource> file, const CacheOptions& options)
    : file_(std::move(file)),
      link_(options, file_->fd(), file_->name(), static_cast<Unit>(units_of(file_->size()))) {}

Result<std::unique_ptr<CachedSource>> CachedSource::open(std::unique_ptr<FileSource>& file,
                                                         const CacheOptions& options) {
  std::unique_ptr<CachedSource> source(new CachedSource(std::move(file), options));
  auto line = source->link_.take();
  if (line) {
    source->set_attached((*line)->attached());
    source->link_.give_back(std::move(*line));
    return source;
  }
  // The one before may still be ending.
  if (is_gone(line.error()) || may_pass(line.error())) {
    source->note_gone(line.error());
    return source;
  }
  file = std::move(source->file_);
  return std::unexpected(line.error());
}

CachedSource::Mapped CachedSource::attached() const {
  const std::shared_lock lock(attached_mutex_);
  return attached_;
}

void CachedSource::set_attached(const Mapped& now) const {
  const std::unique_lock lock(attached_mutex_);
  attached_ = now;
}

// ---- the mirror ----

bool CachedSource::has(const Attached* cache, std::uint64_t offset, std::uint64_t length) {
  if (cache == nullptr) return false;
  const Unit last = unit_at(offset + length - 1);
  for (Unit unit = unit_at(offset); unit <= last; ++unit) {
    if (!cache->map.contains(unit)) return false;
  }
  return true;
}

void CachedSource::touch(const Attached& cache, std::uint64_t offset, std::uint64_t length) const {
  const bool goes_on = ends_[slot_of(offset)].load(std::memory_order_relaxed) == offset;
  ends_[slot_of(offset + length)].store(offset + length, std::memory_order_relaxed);
  cache.touches.add(unit_at(offset), length, !goes_on);
}

Result<void> CachedSource::read_mirror(const Attached& cache, std::uint64_t offset,
                                       std::span<std::byte> out) const {
  SHARDFS_CHECK(checked_ ? read_checked(cache, offset, out) : read_unchecked(cache, offset, out));
  touch(cache, offset, out.size());
  return {};
}

Result<void> CachedSource::read_chunk(const Attached& cache, std::uint64_t offset,
                                      std::span<std::byte> whole) const {
  SHARDFS_CHECK(read_unchecked(cache, offset, whole));
  if (checksum64(whole) == cache.sums.of(unit_at(offset), offset % kUnitBytes / kChunkBytes))
    return {};
  return fail(ErrorKind::Corrupt, name() + ": its copy in the cache is damaged");
}

/// By whole chunks: those of which only a part is wanted by way of a buffer.
Result<void> CachedSource::read_checked(const Attached& cache, std::uint64_t offset,
                                        std::span<std::byte> out) const {
  thread_local Bytes buffer;
  while (!out.empty()) {
    const std::uint64_t begin = offset / kChunkBytes * kChunkBytes;
    const std::uint64_t length = std::min(kChunkBytes, size() - begin);
    const std::uint64_t skip = offset - begin;
    const std::uint64_t wanted = std::min<std::uint64_t>(length - skip, out.size());
    if (wanted == length) {
      SHARDFS_CHECK(read_chunk(cache, begin, out.first(length)));
    } else {
      buffer.resize(length);
      SHARDFS_CHECK(read_chunk(cache, begin, buffer));
      std::ranges::copy(ByteSpan(buffer).subspan(skip, wanted), out.begin());
    }
    offset += wanted;
    out = out.subspan(wanted);
  }
  return {};
}

Result<void> CachedSource::read_unchecked(const Attached& cache, std::uint64_t offset,
                                          std::span<std::byte> out) const {
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t n = ::pread(cache.mirror.get(), out.data() + done, out.size() - done,
                              static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return fail_errno(n == 0 ? EIO : errno, name(), "cannot read the mirror");
    done += static_cast<std::size_t>(n);
  }
  return {};
}

Result<void> CachedSource::try_read_at(std::uint64_t offset, std::span<std::byte> out) const {
  if (out.empty()) return {};
  const auto cache = attached();
  if (distrust_ || offset + out.size() > size() || !has(cache.get(), offset, out.size()) ||
      !read_mirror(*cache, offset, out))
    return would_wait();
  hit_bytes_.fetch_add(out.size(), std::memory_order_relaxed);
  return {};
}

// ---- with a server ----

Result<void> CachedSource::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  return read_by_units(offset, out, distrust_);
}

Result<void> CachedSource::reread_at(std::uint64_t offset, std::span<std::byte> out) const {
  return read_by_units(offset, out, true);
}

Result<void> CachedSource::read_by_units(std::uint64_t offset, std::span<std::byte> out,
                                         bool distrust) const {
  if (offset > size() || out.size() > size() - offset) return file_->read_at(offset, out);
  while (!out.empty()) {
    const std::uint64_t end = (offset / kUnitBytes + 1) * kUnitBytes;
    const auto part = out.first(std::min<std::uint64_t>(out.size(), end - offset));
    const auto cache = attached();
    if (!distrust && has(cache.get(), offset, part.size()) && read_mirror(*cache, offset, part)) {
      hit_bytes_.fetch_add(part.size(), std::memory_order_relaxed);
    } else {
      SHARDFS_CHECK(read_part(offset, part, distrust));
    }
    offset += part.size();
    out = out.subspan(part.size());
  }
  return {};
}

/// What readers are told that still wait when the mount ends: not EINTR, which they would try
/// again.
std::unexpected<Error> CachedSource::ending() const {
  return fail_errno(EIO, name(), "not read, for the mount is ending");
}

/// Bytes of one unit that are not in the mirror, as far as is known here.
Result<void> CachedSource::read_part(std::uint64_t offset, std::span<std::byte> out,
                                     bool distrust) const {
  // A server may have died since the last request; the next one is asked once more.
  for (int attempt = 0; attempt < 2; ++attempt) {
    auto line = link_.take();
    if (!line && line.error().kind == ErrorKind::Interrupted) return ending();
    if (!line && line.error().kind == ErrorKind::Corrupt) return std::unexpected(line.error());
    if (!line) {
      note_gone(line.error());
      break;
    }
    note_back();
    set_attached((*line)->attached());
    const auto done = ask(**line, offset, out, distrust);
    if (done || is_an_answer(done.error())) link_.give_back(std::move(*line));
    if (!done && done.error().kind == ErrorKind::Interrupted) return ending();
    if (done || !is_gone(done.error())) return done;
    link_.forget_all();
    note_gone(done.error());
  }
  return read_direct(offset, out);
}

Result<void> CachedSource::ask(Line& line, std::uint64_t offset, std::span<std::byte> out,
                               bool distrust) const {
  while (!out.empty()) {
    const auto part = out.first(std::min<std::size_t>(out.size(), kBufferBytes));
    const WantRequest request{.offset = offset,
                              .length = static_cast<std::uint32_t>(part.size()),
                              .archive = line.archive(),
                              .flags = distrust ? WantRequest::kDistrust : 0};
    SHARDFS_TRY(const Packet answer, line.call(Message::Want, encode(request)));
    if (answer.type == Message::Failed) return std::unexpected(failure_in(answer));
    if (answer.type == Message::Local) {
      // A mirror that cannot be read is as good as a damaged one.
      if (!read_mirror(*line.attached(), offset, part)) {
        if (distrust) return fail(ErrorKind::NotFound, "cache: the mirror cannot be read");
        distrust = true;
        continue;
      }
    } else if (answer.type == Message::Buffer) {
      SHARDFS_CHECK(line.take_buffer(part));
      touch(*line.attached(), offset, part.size());
    } else {
      return fail(ErrorKind::NotFound, "cache: the server speaks another protocol");
    }
    miss_bytes_.fetch_add(part.size(), std::memory_order_relaxed);
    offset += part.size();
    out = out.subspan(part.size());
  }
  return {};
}

// ---- what was decoded ----

namespace {

/// How positions of decoded bytes follow from an archive. Another number where that changes: a
/// server may have clients of two versions.
constexpr std::uint32_t kDecodedKind = 1;

static_assert(ByteSource::kMaxPiece <= kBufferBytes);

}  // namespace

/// The server knows the holder of a lease by its connection.
class CachedSource::Turn final : public DecodeTurn {
 public:
  Turn(ServerLink& link, std::unique_ptr<Line> line, const BlockKey& key)
      : link_(link), line_(std::move(line)), key_(key) {}
  ~Turn() override {
    if (line_) end(Message::Abandon);
  }

  void keep(ByteSpan piece) override {
    if (!line_ || piece.size() != key_.length) return;
    if (line_->fill_buffer(piece)) end(Message::Put);
  }

 private:
  void end(Message how) {
    auto line = std::exchange(line_, nullptr);
    const auto done = line->call(how, encode(key_));
    if (done && done->type == Message::Done) link_.give_back(std::move(line));
  }

  ServerLink& link_;
  std::unique_ptr<Line> line_;
  const BlockKey key_;
};

DecodedPiece CachedSource::find_decoded(std::uint64_t position, std::span<std::byte> out,
                                        std::chrono::milliseconds patience) const {
  auto line = link_.take();
  if (!line) return {};
  const BlockKey key{link_.archive(), position, static_cast<std::uint32_t>(out.size()),
                     kDecodedKind};
  const auto answer = (*line)->call(Message::Get, encode(key), {}, patience);
  if (!answer) return {.is_awaited = answer.error().sys_errno == ETIMEDOUT, .turn = nullptr};
  if (answer->type == Message::Lease)
    return {.turn = std::make_unique<Turn>(link_, *std::move(line), key)};
  const auto given = answer->as<BufferAnswer>();
  if (answer->type != Message::Buffer || !given || given->length != out.size() ||
      !(*line)->take_buffer(out))
    return {};
  link_.give_back(*std::move(line));
  return {.is_found = true, .turn = nullptr};
}

// ---- without a server ----

Result<void> CachedSource::read_direct(std::uint64_t offset, std::span<std::byte> out) const {
  SHARDFS_CHECK(file_->read_at(offset, out));
  direct_bytes_.fetch_add(out.size(), std::memory_order_relaxed);
  return {};
}

void CachedSource::note_gone(const Error& why) const {
  if (!gone_.exchange(true))
    spdlog::warn("{}: no cache server ({}); reading the archive itself until there is one", name(),
                 why.message);
}

void CachedSource::note_back() const {
  if (gone_.exchange(false)) spdlog::info("{}: there is a cache server again", name());
}

void CachedSource::cancel() const {
  link_.cancel();
  file_->cancel();
}

// ---- hints and figures ----

/// One request and its answer; a server that has died since the last one is no reason to fail.
Result<Packet> CachedSource::request(Message type,
                                     const std::function<Bytes(const Line&)>& payload) const {
  Result<Packet> answer = fail(ErrorKind::NotFound, "cache: no server");
  for (int attempt = 0; attempt < 2; ++attempt) {
    SHARDFS_TRY(auto line, link_.take());
    answer = line->call(type, payload(*line));
    if (answer) link_.give_back(std::move(line));
    if (answer || !is_gone(answer.error())) return answer;
    link_.forget_all();
  }
  return answer;
}

Result<void> CachedSource::hint(std::span<const HintRange> ranges, std::uint32_t flags) const {
  constexpr std::size_t kMost = 1024;  // what one packet holds
  do {
    const auto part = ranges.first(std::min(ranges.size(), kMost));
    ranges = ranges.subspan(part.size());
    const std::uint32_t more = ranges.empty() ? 0 : HintRequest::kMore;
    SHARDFS_TRY(const Packet answer, request(Message::Hint, [&](const Line& line) {
                  return encode(HintRequest{line.archive(), flags | more}, std::as_bytes(part));
                }));
    if (answer.type != Message::Done) return fail(ErrorKind::NotFound, "cache: no such answer");
    flags &= ~HintRequest::kReplace;
  } while (!ranges.empty());
  return {};
}

Result<std::string> CachedSource::server_figures() const {
  SHARDFS_TRY(const Packet answer, request(Message::Stat, [](const Line& line) {
                return encode(StatRequest{line.archive()});
              }));
  return std::string(as_text(answer.payload));
}

CacheCounters CachedSource::counters() const {
  return {hit_bytes_.load(), miss_bytes_.load(), direct_bytes_.load()};
}

std::vector<Unit> CachedSource::present_units() const {
  const auto cache = attached();
  std::vector<Unit> units;
  for (Unit unit = 0; cache && unit < units_of(size()); ++unit) {
    if (cache->map.contains(unit)) units.push_back(unit);
  }
  return units;
}

// The server makes a mirror read-only when it has verified all of it, and writable before it lets
// go of any.
Result<UniqueFd> CachedSource::open_sealed(int flags) const {
  const auto cache = attached();
  struct stat st {};
  if (!cache || !cache->mirror || ::fstat(cache->mirror.get(), &st) != 0 ||
      (st.st_mode & 07777) != S_IRUSR || static_cast<std::uint64_t>(st.st_size) != size())
    return fail(ErrorKind::Unsupported, name() + ": its copy on this node is not complete");
  return reopen(cache->mirror.get(), flags, name());
}

}  // namespace shardfs
