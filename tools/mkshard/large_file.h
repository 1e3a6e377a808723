// A file too large to be held, as chunks read ahead.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "fs/base/bytes.h"
#include "fs/base/result.h"
#include "fs/base/unique_fd.h"
#include "tools/mkshard/entry_reader.h"
#include "tools/mkshard/ordered_pool.h"

namespace shardfs {

/// Reads chunks of large files; one file at a time is in it.
using ChunkPool = OrderedPool<Result<Bytes>>;

/// One thread at a time.
class LargeFile {
 public:
  /// Opens the file that `entry` was found to be, if it is still that version.
  [[nodiscard]] static Result<std::unique_ptr<LargeFile>> open(const FoundEntry& entry,
                                                               ChunkPool& pool);

  /// The next chunk; nothing at the end. An error means that the archive under way cannot be saved:
  /// its header promised more bytes than there are.
  [[nodiscard]] Result<std::optional<Bytes>> next();

  /// After the last chunk: fails if the file changed while it was read, though its size did not
  /// shrink.
  [[nodiscard]] Result<void> check_unchanged() const;

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  LargeFile(UniqueFd fd, std::string path, FileVersion version, ChunkPool& pool)
      : fd_(std::make_shared<UniqueFd>(std::move(fd))),
        path_(std::move(path)),
        version_(version),
        pool_(pool) {}
  void read_ahead();

  std::shared_ptr<UniqueFd> fd_;
  std::string path_;
  FileVersion version_;
  ChunkPool& pool_;
  std::uint64_t asked_ = 0;  ///< bytes that chunks have been asked for
  unsigned waiting_ = 0;     ///< chunks asked for and not taken
};

}  // namespace shardfs
