#pragma once

#include <string>
#include <utility>

#include <unistd.h>

#include "fs/base/result.h"

namespace shardfs {

/// Owns one file descriptor and closes it; -1 is empty. Move-only.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  ~UniqueFd() { reset(); }

  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] explicit operator bool() const { return fd_ >= 0; }
  /// Gives the descriptor up to the caller.
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }
  /// Closes the descriptor held and takes `fd`. close() errors are ignored: writers check fsync().
  void reset(int fd = -1) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

/// The file behind `fd` with a description of its own, opened with the `flags` of open(2). Io as
/// met; `name` is for the message.
[[nodiscard]] Result<UniqueFd> reopen(int fd, int flags, const std::string& name);

}  // namespace shardfs
