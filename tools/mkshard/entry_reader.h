// What a worker finds out about one name of the source directory.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <sys/stat.h>

#include "fs/archive/shard/writer.h"
#include "fs/base/result.h"
#include "fs/tree/builder.h"
#include "tools/mkshard/output_file.h"
#include "tools/mkshard/walk.h"

namespace shardfs {

/// What tells a file that changed from one that did not.
struct FileVersion {
  InodeKey inode;
  std::uint64_t size = 0;
  Time mtime, ctime;
  friend bool operator==(const FileVersion&, const FileVersion&) = default;
};

[[nodiscard]] FileVersion version_of(const struct stat& status);

/// One name, read.
struct FoundEntry {
  Member member;
  Payload payload;
  bool prepared = false;    ///< payload is
  bool linked = false;      ///< the inode has other names
  std::uint64_t links = 1;  ///< how many in all
  bool large = false;       ///< regular and over kWholeFile: data are still to be read
  bool left_out = false;    ///< the output itself, or a socket: `notice` says so
  FileVersion version;
  DirectoryRef directory;  ///< where a large one is opened again
  std::string name;        ///< in `directory`
  std::optional<Error> failure;
  std::string notice;  ///< or what of it is not packed
};

struct EntryReaderOptions {
  bool retry_changed = false;      ///< read a file that changed up to three times more
  std::vector<InodeKey> left_out;  ///< the output and its temporary file
};

/// Any number of threads may call read() at once.
class EntryReader {
 public:
  explicit EntryReader(EntryReaderOptions options) : options_(std::move(options)) {}

  /// Reads `name` in `directory`, of a `type` as in readdir(3): attributes, and data up to
  /// kWholeFile. `reserve(bytes)` is called before data are read. Failures are in the result.
  [[nodiscard]] FoundEntry read(const DirectoryRef& directory, std::string_view name,
                                unsigned char type,
                                const std::function<void(std::uint64_t)>& reserve) const;

  /// From now on payloads are prepared.
  void prepare_for(Container container) { container_ = container; }

 private:
  Result<void> read_other(FoundEntry& found, unsigned char type) const;
  Result<void> read_regular(FoundEntry& found,
                            const std::function<void(std::uint64_t)>& reserve) const;
  Result<bool> read_once(FoundEntry& found, Bytes& bytes,
                         const std::function<void(std::uint64_t)>& reserve) const;
  bool is_left_out(const FileVersion& version) const;

  const EntryReaderOptions options_;
  std::atomic<std::optional<Container>> container_{};
};

/// Opens a regular file for reading. Never follows a symlink or waits for a FIFO.
[[nodiscard]] Result<UniqueFd> open_regular(const DirectoryHandle& directory,
                                            const std::string& name, const std::string& path);

/// The failure of a file that is not what it was when it was first looked at.
[[nodiscard]] std::unexpected<Error> changed_error(const std::string& path);

}  // namespace shardfs
