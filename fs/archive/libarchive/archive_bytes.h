// An archive's bytes as libarchive reads them.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <utility>

#include <archive.h>

#include "fs/archive/compressed/stream.h"
#include "fs/archive/libarchive/handle.h"
#include "fs/base/byte_source.h"
#include "fs/base/bytes.h"
#include "fs/base/result.h"
#include "fs/tree/tree.h"

namespace shardfs {

/// A source's bytes, or those of a stream that decodes it. Remembers those that were given since a
/// member's header began. One thread at a time.
class ArchiveBytes {
 public:
  /// `stream` is null where the source is not compressed. Both must outlive the archive that reads
  /// from here. `look` is called, unless it is empty, whenever more bytes are wanted, and while
  /// they are waited for; where it returns false they are not given: Interrupted.
  ArchiveBytes(const ByteSource& source, DecodedStream* stream, std::function<bool()> look = {})
      : source_(source), stream_(stream), look_(std::move(look)) {
    if (stream_ != nullptr) stream_->while_waiting(look_);
  }

  /// Registers this as what `a` reads, and opens it; libarchive's answer.
  [[nodiscard]] int attach(struct archive* a);

  /// Around archive_read_next_header().
  void begin_header();
  void end_header() { in_header_ = false; }

  /// After end_header(): the time in the pax header at `position`, if there is one.
  [[nodiscard]] std::optional<Time> pax_mtime(std::uint64_t position) const;
  /// After end_header(): whether the pax header at `position` has this record.
  [[nodiscard]] bool pax_has(std::uint64_t position, std::string_view key) const;

  /// Whether a directory entry of an ISO image was read that has its file decompressed on the way:
  /// libarchive does, but its bytes stand in no place.
  [[nodiscard]] bool has_zisofs() const { return has_zisofs_; }
  void look_for_zisofs() { looks_for_zisofs_ = true; }

  /// Takes what is left, so that all of a compressed file has been seen.
  [[nodiscard]] Result<void> drain();
  /// The failure that libarchive was told of, if any.
  [[nodiscard]] Result<void> check() const;

 private:
  bool next();
  [[nodiscard]] Result<ByteSpan> next_of_source();
  void go_to(std::uint64_t position);
  static la_ssize_t read(struct archive* a, void* self, const void** buffer);
  static la_int64_t skip(struct archive* a, void* self, la_int64_t request);
  static la_int64_t seek(struct archive* a, void* self, la_int64_t offset, int whence);

  const ByteSource& source_;
  DecodedStream* stream_;
  std::function<bool()> look_;
  Bytes buffer_;
  ByteSpan block_;                  ///< given last
  std::uint64_t block_start_ = 0;   ///< its position
  Bytes header_;                    ///< bytes since begin_header(), without block_
  std::uint64_t header_start_ = 0;  ///< position of header_'s first byte
  bool in_header_ = false;
  bool looks_for_zisofs_ = false, has_zisofs_ = false;
  std::optional<Error> error_;
};

}  // namespace shardfs
