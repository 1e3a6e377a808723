// The archive under a temporary name until it is whole.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include <sys/types.h>

#include "fs/archive/shard/writer.h"
#include "fs/base/bytes.h"
#include "fs/base/checksum.h"
#include "fs/base/result.h"
#include "fs/base/unique_fd.h"

namespace shardfs {

/// Which file an open descriptor is.
struct InodeKey {
  dev_t device = 0;
  ino_t inode = 0;
  friend bool operator==(const InodeKey&, const InodeKey&) = default;
};

/// A file ".NAME.tmp-XXXXXX" beside the one to be. It is removed with the object unless publish()
/// succeeded. One thread at a time.
class OutputFile final : public ByteSink {
 public:
  /// Makes the temporary file in the directory of `output`, with the permissions the umask leaves.
  [[nodiscard]] static Result<OutputFile> create(const std::string& output);

  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile() override;

  [[nodiscard]] Result<void> write(ByteSpan bytes) override;

  /// Writes what is buffered and waits until all is on the device.
  [[nodiscard]] Result<void> sync();

  /// Gives the file its name `path`, in the same directory; an existing one is replaced only with
  /// `force`. REQUIRES: sync() succeeded.
  [[nodiscard]] Result<void> publish(const std::string& path, bool force);

  [[nodiscard]] const std::string& temporary_path() const { return temporary_; }
  [[nodiscard]] InodeKey inode() const { return inode_; }
  /// XXH3-64 of all bytes so far, 16 hex digits.
  [[nodiscard]] std::string digest() const;

 private:
  OutputFile(UniqueFd fd, UniqueFd directory, std::string output, std::string temporary);
  Result<void> flush();
  Result<void> rename_without_replacing(const std::string& path);
  [[nodiscard]] std::unexpected<Error> write_error(int error, const char* what) const;

  UniqueFd fd_;
  UniqueFd directory_;
  std::string output_;
  std::string temporary_;  ///< empty: nothing to remove
  InodeKey inode_;
  Bytes buffer_;
  std::uint64_t written_ = 0;
  Checksum64 checksum_;
};

/// Fails if `path` cannot become the output: it is there and `force` is not set, or is no regular
/// file.
[[nodiscard]] Result<void> check_replaceable(const std::string& path, bool force);

}  // namespace shardfs
