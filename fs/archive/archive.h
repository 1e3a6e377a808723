// One opened archive, whatever its format: a tree, and the bytes of its files.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fs/base/byte_source.h"
#include "fs/base/bytes.h"
#include "fs/base/result.h"
#include "fs/tree/stable_numbers.h"
#include "fs/tree/tree.h"

namespace shardfs {

/// A decoded piece of an archive's logical stream that holds the data of several files.
struct DecodedBlock {
  std::uint64_t position = 0;  ///< of the first byte, in the logical (tar) stream
  Bytes bytes;
};

/// Where bytes of a file lie in the archive file.
struct Extent {
  std::uint64_t offset = 0;   ///< in the archive file
  std::uint64_t length = 0;   ///< bytes there
  bool stored = true;         ///< the bytes are the file's own; otherwise `encoding` holds them
  std::uint64_t skip = 0;     ///< bytes of the decoded extent before the file's
  std::uint64_t decoded = 0;  ///< bytes of the file it yields
};

/// One place where an archive is not what was packed.
struct Damage {
  std::string path;  ///< of the file hit, or what else was hit ("index", "headers", "seek table")
  std::uint64_t piece = 0;   ///< number of the piece in its file, or of the frame
  std::uint64_t offset = 0;  ///< in the archive file, bytes
};

struct VerifyReport {
  std::uint64_t checked_bytes = 0;  ///< of the archive file
  std::vector<Damage> bad;          ///< empty if all is as packed
  [[nodiscard]] bool ok() const { return bad.empty(); }
};

/// Facts about an archive for `shardfs info`.
struct ArchiveInfo {
  std::string format;  ///< "shard", or what the archive is: "tar", "tar.gz", "zip", "squashfs", …
  std::string container;  ///< of a shard "tar" or "tar.zst", else the format
  std::string
      access;  ///< "random": any byte at once; "frame": a frame must be decoded; "sequential"
  std::string checksum;  ///< "xxh3-64", or "none" of our own
  std::string id;        ///< 32 hex digits of the archive's identity
  std::uint64_t files = 0, directories = 0, entries = 0;
  std::uint64_t file_bytes = 0;    ///< sum of regular files' sizes
  std::uint64_t packed_bytes = 0;  ///< size of the archive file
  std::uint64_t index_bytes = 0;
  std::string remedy;  ///< the command that makes it fast, where single files are slow to read
};

/// Immutable once opened; every member may be called by any number of threads.
class Archive {
 public:
  virtual ~Archive() = default;

  [[nodiscard]] virtual const Tree& tree() const = 0;
  [[nodiscard]] virtual ArchiveInfo info() const = 0;
  [[nodiscard]] virtual const ByteSource& source() const = 0;
  /// What a user should be told once: members that are left out, an index that is not believed.
  [[nodiscard]] virtual const std::vector<std::string>& notes() const {
    static const std::vector<std::string> none;
    return none;
  }

  /// Of an archive that was shown by parts while it was scanned: the numbers of its files that all
  /// parts share. Null otherwise.
  [[nodiscard]] virtual std::shared_ptr<const StableNumbers> numbers() const { return nullptr; }

  /// Reads a regular file (`inode` as Tree::inode gave it) from `offset`; returns the number of
  /// bytes, less than out.size() only at the end of the file. Every byte has been checked. Where a
  /// block had to be decoded that holds other files' data too, `*decoded` is set to it; `decoded`
  /// may be null. Corrupt and Io errors name the file's path, the piece or frame, and the archive
  /// and offset.
  [[nodiscard]] virtual Result<std::size_t> read(
      Entry inode, std::uint64_t offset, std::span<std::byte> out,
      std::shared_ptr<const DecodedBlock>* decoded) const = 0;

  /// As read(), from what is at hand: WouldWait where shared storage would have to be waited for.
  [[nodiscard]] virtual Result<std::size_t> try_read(
      Entry inode, std::uint64_t offset, std::span<std::byte> out,
      std::shared_ptr<const DecodedBlock>* decoded) const = 0;

  /// The stretch of the logical stream that holds the beginning of the file's data: from a multiple
  /// of `size` to the next one, and kWindowTail further, so that what begins in it ends in it too;
  /// read in one or two requests. For contents_in(), which says what of it may be used. What
  /// `block` held before is gone, but its memory is used again.
  [[nodiscard]] virtual Result<void> window(Entry inode, std::uint64_t size,
                                            DecodedBlock& block) const = 0;
  static constexpr std::uint64_t kWindowTail = 128 * 1024;

  /// Whether the whole content of `inode`, a file that is not empty, lies in `block`.
  [[nodiscard]] virtual bool holds(const DecodedBlock& block, Entry inode) const = 0;

  /// Bytes of the logical stream, for counting its windows.
  [[nodiscard]] virtual std::uint64_t stream_size() const = 0;

  /// The whole content of `inode`, if it lies in `block` and is as packed; for handing on what was
  /// read or decoded anyway.
  [[nodiscard]] virtual std::optional<ByteSpan> contents_in(const DecodedBlock& block,
                                                            Entry inode) const = 0;

  /// Where the file's bytes lie, in order. Empty for an empty file.
  [[nodiscard]] virtual Result<std::vector<Extent>> extents(Entry inode) const = 0;

  /// Checks every byte of the archive with `threads` threads. `progress(bytes)` is called now and
  /// then, from any of them, with the bytes checked since the last call; returning false stops:
  /// Interrupted.
  [[nodiscard]] virtual Result<VerifyReport> verify(
      unsigned threads, const std::function<bool(std::uint64_t)>& progress) const = 0;
};

}  // namespace shardfs
