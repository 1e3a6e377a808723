// Failures of shared storage that may pass.
#pragma once

#include <cerrno>
#include <chrono>

namespace shardfs {

/// Whether a storage server that is busy or restarting answers so. Not ESTALE: the file has gone.
[[nodiscard]] constexpr bool is_transient(int err) {
  return err == EIO || err == EAGAIN || err == ETIMEDOUT || err == EINTR || err == ENOMEM ||
         err == ECONNRESET || err == ENOTCONN || err == EREMOTEIO;
}

/// Before the second try; each further pause is twice as long as the last.
inline constexpr std::chrono::milliseconds kFirstPause{50};

}  // namespace shardfs
