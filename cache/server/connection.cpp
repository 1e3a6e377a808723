#include "cache/server/connection.h"

#include <cerrno>

#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <unistd.h>

namespace shardfs {

void Connection::send(Message type, ByteSpan payload, std::span<const int> fds) {
  if (type != Message::Pong) busy = false;
  if (const auto sent = send_packet(socket_.get(), type, payload, fds); !sent) {
    spdlog::debug("{}", sent.error().message);
    hang_up();
  }
}

void Connection::send_error(const Error& error) {
  send(Message::Failed,
       encode(FailedAnswer{error.sys_errno, static_cast<std::uint32_t>(error.kind)},
              as_bytes(std::string_view(error.message).substr(0, 4096))));
}

void Connection::send_bytes(ByteSpan bytes) {
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t n =
        ::pwrite(buffer_.get(), bytes.data() + done, bytes.size() - done, static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {  // Out of memory, or a buffer that is none.
      const auto failed = fail_errno(n == 0 ? ENOSPC : errno, "cache", "a client's buffer");
      return send_error(failed.error());
    }
    done += static_cast<std::size_t>(n);
  }
  send(Message::Buffer, encode(BufferAnswer{static_cast<std::uint32_t>(bytes.size())}));
}

}  // namespace shardfs
