// Writes a shard (FORMAT.md) from members and their data in archive order.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "fs/base/bytes.h"
#include "fs/base/result.h"
#include "fs/tree/builder.h"

namespace shardfs {

/// Takes the bytes of the archive in order. Called by one thread at a time.
class ByteSink {
 public:
  virtual ~ByteSink() = default;
  [[nodiscard]] virtual Result<void> write(ByteSpan bytes) = 0;
};

/// Largest ShardOptions::align: a pax record of more is refused by libarchive.
inline constexpr std::uint32_t kMaxAlign = 512 * 1024;

struct ShardOptions {
  Container container = Container::Tar;
  int level = 3;                         ///< zstd level, 1 to 22
  std::uint32_t frame_size = 64 * 1024;  ///< bytes of tar a frame, 4 KiB to 16 MiB
  std::uint32_t align = 0;  ///< 0, or a power of two from 512 to kMaxAlign: data of files of 64 KiB
                            ///< and more starts at multiples
  bool tar_mtime_ns = false;  ///< also write nanoseconds into pax headers
  unsigned threads = 1;       ///< that compress; bytes do not depend on it
};

/// A small file's data with what can be found out about it in any thread, ahead of the writer.
struct Payload {
  Bytes bytes;
  bool shrinks = false;               ///< zstd level 1 saves a tenth or more; `.tar.zst` only
  std::vector<std::uint64_t> pieces;  ///< XXH3-64 of each piece; `.tar` only

  [[nodiscard]] static Payload prepare(Bytes bytes, Container container);
};

struct ShardSummary {
  Container container = Container::Tar;
  std::uint64_t files = 0;
  std::uint64_t entries = 0;
  std::uint64_t file_bytes = 0;
  std::uint64_t packed_bytes = 0;
  std::uint64_t index_bytes = 0;
  std::string id;  ///< identity, 32 hex digits
};

/// Files up to this many bytes are added whole with add(member, payload).
inline constexpr std::uint64_t kSmallFile = 1024 * 1024;

/// One thread at a time; compresses with threads of its own. After an error the writer is good for
/// nothing but destruction. Bytes are the same for the same members, data and options, whatever
/// `threads` is and however data was cut into append() calls.
class ShardWriter {
 public:
  virtual ~ShardWriter() = default;

  /// `sink` must outlive the writer.
  [[nodiscard]] static Result<std::unique_ptr<ShardWriter>> create(const ShardOptions& options,
                                                                   ByteSink& sink);

  /// Adds a member without data, or a file of at most kSmallFile bytes with all its data.
  /// REQUIRES: payload.bytes.size() == member.size.
  [[nodiscard]] virtual Result<void> add(const Member& member, Payload payload) = 0;

  /// Adds a file of any size, whose data follow by append(), member.size bytes in all.
  [[nodiscard]] virtual Result<void> begin(const Member& member) = 0;
  [[nodiscard]] virtual Result<void> append(ByteSpan data) = 0;

  /// Writes index and end. Nothing may follow.
  [[nodiscard]] virtual Result<ShardSummary> finish() = 0;
};

}  // namespace shardfs
