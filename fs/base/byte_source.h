// Where the raw bytes of an archive come from. Every format reads through this one interface, so
// that caching, fault injection and counting are decorators around it.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include <sys/stat.h>

#include "fs/base/bytes.h"
#include "fs/base/result.h"
#include "fs/base/unique_fd.h"

namespace shardfs {

/// Most bytes that are asked for at once where whole files or tables are read: what shared storage
/// gives at its full rate, and small enough to be kept in memory by every thread that reads.
inline constexpr std::uint64_t kStoreRequest = 4 * 1024 * 1024;

/// Whether a read may wait for shared storage.
enum class Wait : bool { No, Yes };

/// Somebody's turn to decode a piece for all on this node who want it; others wait meanwhile. Gone
/// without keep(), it is the next one's.
class DecodeTurn {
 public:
  virtual ~DecodeTurn() = default;
  /// Has `piece` kept for them, if there is room.
  virtual void keep(ByteSpan piece) = 0;
};

/// What became of a search for a piece that may have been decoded before.
struct DecodedPiece {
  bool is_found = false;
  bool is_awaited = false;           ///< somebody else is decoding it still
  std::unique_ptr<DecodeTurn> turn;  ///< null where it is found or awaited, or nobody keeps any
};

/// A random-access, read-only sequence of bytes of fixed length. Thread-safe: all members may be
/// called by any number of threads at once.
class ByteSource {
 public:
  virtual ~ByteSource() = default;

  /// Fills `out` whole with the bytes from `offset` on. A range that ends behind size(), or a
  /// source that turns out to be shorter, is Corrupt ("cut short"); nothing is invented.
  [[nodiscard]] virtual Result<void> read_at(std::uint64_t offset,
                                             std::span<std::byte> out) const = 0;

  /// As read_at(), but WouldWait where that might take as long as shared storage takes. A local
  /// file system is not waited for in this sense.
  [[nodiscard]] virtual Result<void> try_read_at(std::uint64_t offset,
                                                 std::span<std::byte> out) const {
    return read_at(offset, out);
  }

  /// The same bytes once more, from their origin: what came was not what it should be.
  [[nodiscard]] virtual Result<void> reread_at(std::uint64_t offset,
                                               std::span<std::byte> out) const {
    return read_at(offset, out);
  }

  /// Whether this is a copy of something farther away: then try_read_at() may answer WouldWait, and
  /// reread_at() may give other bytes than read_at().
  [[nodiscard]] virtual bool may_wait() const { return false; }

  /// Whether what is decoded of these bytes can be kept for others on this node.
  [[nodiscard]] virtual bool keeps_decoded() const { return false; }

  /// Most bytes of a piece that is kept.
  static constexpr std::size_t kMaxPiece = 1024 * 1024;

  /// Longer than it takes to decode a piece, for whose turn it is may have been stopped.
  static constexpr std::chrono::milliseconds kPiecePatience{5000};

  /// The piece at `position` of what these bytes decode to, as long as `out`, if somebody on this
  /// node has decoded it before. Who is decoding it is waited for, for `patience`.
  /// REQUIRES: 0 < out.size() <= kMaxPiece.
  [[nodiscard]] virtual DecodedPiece find_decoded(std::uint64_t position, std::span<std::byte> out,
                                                  std::chrono::milliseconds patience) const {
    (void)position, (void)out, (void)patience;
    return {};
  }

  /// From now on who reads here cannot tell right bytes from wrong ones: where this is a copy, it
  /// has to check itself what it gives. Before any other thread reads.
  virtual void check_itself() const {}

  /// Bytes; fixed at opening.
  [[nodiscard]] virtual std::uint64_t size() const = 0;

  /// What messages call this source: the path as the user gave it.
  [[nodiscard]] virtual const std::string& name() const = 0;
};

/// Requests and bytes a FileSource has asked the file system for since it was opened.
struct SourceCounters {
  std::uint64_t requests = 0;
  std::uint64_t bytes = 0;
  std::uint64_t errors = 0;
};

/// An open regular file. Notices when the file is cut: a read behind the new end is Corrupt. With
/// check_itself() also when it is written to: every read whose end finds another size or
/// modification time than at opening is Corrupt.
class FileSource final : public ByteSource {
 public:
  /// Opens `path` for reading. Anything but a regular file is Invalid (a FIFO is not waited for).
  [[nodiscard]] static Result<std::unique_ptr<FileSource>> open(const std::string& path);

  [[nodiscard]] Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override;
  [[nodiscard]] std::uint64_t size() const override { return size_; }
  [[nodiscard]] const std::string& name() const override { return path_; }
  void check_itself() const override { checked_ = true; }

  /// It lies on a shared file system: every read may wait, what fails is tried again for
  /// `patience`, and at most `inflight` threads read at a time. On a local one none waits, in that
  /// sense. To be said before any other thread reads.
  void set_shared(std::chrono::milliseconds patience, unsigned inflight) {
    shared_ = true;
    patience_ = patience;
    inflight_ = inflight;
  }
  /// Has those that wait for their turn, or to try again, fail with EIO, and all to come.
  void cancel() const;
  [[nodiscard]] bool may_wait() const override { return shared_; }
  [[nodiscard]] Result<void> try_read_at(std::uint64_t offset,
                                         std::span<std::byte> out) const override {
    if (shared_) return would_wait();
    return read_at(offset, out);
  }

  [[nodiscard]] SourceCounters counters() const;
  /// The descriptor, for fstat(); stays owned by this object.
  [[nodiscard]] int fd() const { return fd_.get(); }
  /// Corrupt: its size or mtime is not what it was when it was opened.
  [[nodiscard]] Result<void> check_unchanged() const;

 private:
  FileSource(UniqueFd fd, std::string path, const struct stat& st);
  [[nodiscard]] Result<void> read_once(std::uint64_t offset, std::span<std::byte> out) const;
  [[nodiscard]] Result<void> read_shared(std::uint64_t offset, std::span<std::byte> out) const;

  UniqueFd fd_;
  std::string path_;
  std::uint64_t size_;
  std::int64_t mtime_ns_;
  mutable bool checked_ = false;
  bool shared_ = false;
  std::chrono::milliseconds patience_{0};
  unsigned inflight_ = 0;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  mutable unsigned reading_ = 0;    ///< guarded by mutex_, like the next
  mutable bool cancelled_ = false;  ///< nothing is waited for any more
  mutable std::atomic<std::uint64_t> requests_{0}, bytes_{0}, errors_{0};
};

}  // namespace shardfs
