// Expected failures as values: Error says what failed, on which file, and what to do about it.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace shardfs {

/// What went wrong, coarse enough that one switch makes an errno and another an exit code of it.
enum class ErrorKind : std::uint8_t {
  Corrupt,      ///< The bytes are not what was written (checksum, impossible value, cut short).
  Io,           ///< The operating system failed an operation; `sys_errno` tells which way.
  NotFound,     ///< No such file, entry or attribute.
  Invalid,      ///< The caller asked for something that makes no sense.
  Unsupported,  ///< Understood, and not done here: another format, a newer version, a missing
                ///< right.
  NoSpace,      ///< No room on the device or in the quota.
  Interrupted,  ///< A signal asked for the end.
  WouldWait,    ///< Not now: it would take as long as shared storage takes. Nothing is wrong.
};

/// Where in an archive something failed.
struct Place {
  std::uint64_t piece = 0;   ///< number of the piece of its file, or of the frame
  std::uint64_t offset = 0;  ///< in the archive file, bytes
};

/// One failure. The message follows "PATH: WHAT (where): ERRNO TEXT; try: COMMAND", leaving out the
/// parts that do not apply, and starts with a lower-case word or the path.
struct Error {
  ErrorKind kind = ErrorKind::Io;
  int sys_errno = 0;  ///< errno of the failed call, or 0 where no call failed.
  std::string message;
  std::optional<Place> place = {};  ///< where the failure has one; the message names it too

  /// The errno a system call on a mount answers with. Exhaustive over ErrorKind; never 0.
  [[nodiscard]] int to_errno() const;
};

template <typename T>
using Result = std::expected<T, Error>;

/// A failure without an operating system's errno.
[[nodiscard]] std::unexpected<Error> fail(ErrorKind kind, std::string message);

/// Corrupt: the bytes are not what was written.
[[nodiscard]] std::unexpected<Error> corrupt(std::string message);

/// WouldWait, without a message: nobody is told of it.
[[nodiscard]] std::unexpected<Error> would_wait();

/// A failed system call on `path`: "PATH: WHAT: strerror(err)". ENOSPC and EDQUOT become NoSpace,
/// ENOENT NotFound, everything else Io. `err` is errno as it was right after the call.
[[nodiscard]] std::unexpected<Error> fail_errno(int err, std::string_view path,
                                                std::string_view what);

}  // namespace shardfs

#define SHARDFS_CONCAT_(a, b) a##b
#define SHARDFS_CONCAT(a, b) SHARDFS_CONCAT_(a, b)

/// `SHARDFS_TRY(auto x, f());` declares x with f()'s value, or returns f()'s error.
#define SHARDFS_TRY(declaration, expression) \
  SHARDFS_TRY_(SHARDFS_CONCAT(shardfs_result_, __LINE__), declaration, expression)
#define SHARDFS_TRY_(result, declaration, expression)             \
  auto result = (expression);                                     \
  if (!result) return std::unexpected(std::move(result).error()); \
  declaration = std::move(*result)

/// `SHARDFS_CHECK(f());` returns f()'s error, if any; for Result<void>.
#define SHARDFS_CHECK(expression)                                \
  do {                                                           \
    if (auto shardfs_check_ = (expression); !shardfs_check_)     \
      return std::unexpected(std::move(shardfs_check_).error()); \
  } while (false)
