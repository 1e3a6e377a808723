#include "fs/base/result.h"

#include <cerrno>
#include <cstring>

namespace shardfs {

int Error::to_errno() const {
  switch (kind) {
    case ErrorKind::Corrupt:
      return EIO;
    case ErrorKind::Io:
      return sys_errno != 0 ? sys_errno : EIO;
    case ErrorKind::NotFound:
      return ENOENT;
    case ErrorKind::Invalid:
      return EINVAL;
    case ErrorKind::Unsupported:
      return EOPNOTSUPP;
    case ErrorKind::NoSpace:
      return sys_errno != 0 ? sys_errno : ENOSPC;
    case ErrorKind::Interrupted:
      return EINTR;
    case ErrorKind::WouldWait:
      return EAGAIN;
  }
  return EIO;
}

std::unexpected<Error> fail(ErrorKind kind, std::string message) {
  return std::unexpected(Error{kind, 0, std::move(message)});
}

std::unexpected<Error> corrupt(std::string message) {
  return fail(ErrorKind::Corrupt, std::move(message));
}

std::unexpected<Error> would_wait() { return fail(ErrorKind::WouldWait, {}); }

std::unexpected<Error> fail_errno(int err, std::string_view path, std::string_view what) {
  ErrorKind kind = ErrorKind::Io;
  if (err == ENOSPC || err == EDQUOT) kind = ErrorKind::NoSpace;
  if (err == ENOENT) kind = ErrorKind::NotFound;
  char buffer[128];
  std::string message;
  message.append(path).append(": ").append(what).append(": ");
  message.append(strerror_r(err, buffer, sizeof buffer));  // The GNU variant, which is thread-safe.
  return std::unexpected(Error{kind, err, std::move(message)});
}

}  // namespace shardfs
