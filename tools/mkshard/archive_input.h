// Bytes for libarchive, from a file or a pipe, so that a signal ends the waiting.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <archive.h>

#include "fs/archive/libarchive/handle.h"
#include "fs/base/result.h"
#include "fs/base/unique_fd.h"
#include "fs/tree/tree.h"

namespace shardfs {

/// The file or pipe that an archive is read from. Used by one thread, but for cancel() and
/// fraction().
class ArchiveFile {
 public:
  /// "-" is standard input.
  [[nodiscard]] static Result<std::unique_ptr<ArchiveFile>> open(const std::string& path);

  /// Registers this as what `a` reads.
  [[nodiscard]] int attach(struct archive* a);

  /// Takes the next bytes: how many, 0 at the end, -1 with error() set. Valid until the next call.
  [[nodiscard]] la_ssize_t next_block(const void** buffer);

  /// The first bytes, which next_block() gives all the same; fewer if there are no more. Before
  /// anything was taken.
  [[nodiscard]] Result<std::string> head();

  /// Bytes from here on, without taking them; empty for a pipe.
  [[nodiscard]] std::string peek(std::size_t offset, std::size_t size) const;

  [[nodiscard]] bool is_seekable() const { return size_.has_value(); }
  [[nodiscard]] const std::string& name() const { return name_; }
  /// By which this process can open it once more.
  [[nodiscard]] std::string path() const;
  /// Ends a read() that waits for input, and all later ones. Any thread.
  void cancel();

  /// Set if reading failed or was interrupted.
  [[nodiscard]] const std::optional<Error>& error() const { return error_; }
  /// Bytes taken so far, as a share of the file; negative for a pipe. Any thread.
  [[nodiscard]] double fraction() const;

 private:
  ArchiveFile(UniqueFd fd, std::string name);
  static la_ssize_t read(struct archive* a, void* self, const void** buffer);
  static la_int64_t seek(struct archive* a, void* self, la_int64_t offset, int whence);
  static la_int64_t skip(struct archive* a, void* self, la_int64_t request);
  la_ssize_t read_some(char* to, std::size_t size);

  UniqueFd fd_;
  UniqueFd cancel_;  ///< an eventfd
  std::string name_;
  std::optional<std::uint64_t> size_;  ///< of a regular file
  std::vector<char> buffer_;
  std::size_t held_ = 0;  ///< bytes of buffer_ that head() read and next_block() has not given
  std::optional<Error> error_;
  std::atomic<std::uint64_t> position_{0};
};

class GzipInput;

/// An archive's bytes after decompression, that also remembers those of the member header read
/// last, because libarchive misreads a time before 1970 with a fraction (pax "mtime=-0.5" becomes
/// +0.5).
class DecodedInput {
 public:
  ~DecodedInput();
  /// Decompresses what `file` holds; both must outlive the archive that reads from here.
  [[nodiscard]] static Result<std::unique_ptr<DecodedInput>> open(ArchiveFile& file);

  [[nodiscard]] int attach(struct archive* a);

  /// The first decoded bytes, up to some KiB; before attach().
  [[nodiscard]] std::string_view head() const { return block_; }

  /// Call before archive_read_next_header(): forgets older bytes.
  void begin_header();

  /// Right after it: nothing more is remembered.
  void end_header() { in_header_ = false; }

  /// After end_header(), before data are read: the time in the pax header at `position` of the
  /// decoded bytes, if there is one.
  [[nodiscard]] std::optional<Time> pax_mtime(std::uint64_t position) const;

  /// Reads to the end, so that a cut or damaged compressed file is noticed and a producer in a pipe
  /// does not die of SIGPIPE. Whether any byte from `position` of the decoded bytes on is not zero.
  [[nodiscard]] Result<bool> drain(std::uint64_t position);

  /// For what is not an archive: the failure if that is because the compressed data are damaged, of
  /// which the checksum at a block's end tells. Takes some MiB.
  [[nodiscard]] Result<void> check_ahead();

  /// After drain(): whether bytes that are not compressed follow those that are.
  [[nodiscard]] bool has_garbage() const;

  [[nodiscard]] Result<void> check() const;

 private:
  explicit DecodedInput(ArchiveFile& file);
  [[nodiscard]] Result<void> begin();
  [[nodiscard]] Result<void> check_filters() const;
  [[nodiscard]] std::unexpected<Error> failure(const std::string& text) const;
  static la_ssize_t read(struct archive* a, void* self, const void** buffer);
  la_ssize_t next_block(const void** buffer);

  ArchiveFile& file_;
  const char* compression_ = nullptr;  ///< its name, if the first bytes tell
  std::unique_ptr<GzipInput> gzip_;    ///< between file_ and raw_ where the file is gzip
  ArchiveHandle raw_;
  bool at_end_ = false;
  std::string failure_;
  std::string header_;              ///< bytes since begin_header(), without block_
  std::uint64_t header_start_ = 0;  ///< position of header_'s first byte
  std::string_view block_;          ///< handed out last; valid until the next one
  std::uint64_t block_start_ = 0;
  bool in_header_ = false;
  bool first_ = true;  ///< block_ has not been handed out
};

}  // namespace shardfs
