// One client of a cache server.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include <sys/socket.h>

#include "cache/common/protocol.h"
#include "fs/base/unique_fd.h"

namespace shardfs {

/// Answers may be sent by any thread. Where one cannot be, the connection is shut down, which its
/// client and the server's poll thread both see.
class Connection {
 public:
  explicit Connection(UniqueFd socket) : socket_(std::move(socket)) {}

  [[nodiscard]] int socket() const { return socket_.get(); }

  void send(Message type, ByteSpan payload = {}, std::span<const int> fds = {});
  void send_error(const Error& error);
  /// Nothing more is said to the client, nor heard from it.
  void hang_up() {
    ::shutdown(socket_.get(), SHUT_RDWR);
    open_ = false;
  }
  [[nodiscard]] bool is_open() const { return open_; }
  /// Puts `bytes` into the client's buffer and says so.
  void send_bytes(ByteSpan bytes);

  /// Set once, by HELLO, before anything else is served.
  void greet(UniqueFd buffer) { buffer_ = std::move(buffer); }
  [[nodiscard]] bool is_greeted() const { return static_cast<bool>(buffer_); }
  [[nodiscard]] int buffer() const { return buffer_.get(); }

  /// A request is being worked on; a client that sends another one breaks the protocol.
  std::atomic<bool> busy{false};

  /// The number of the archive that the last WANT was of, and whether that has not begun yet:
  /// others have their turn first. The server's lock guards them.
  std::uint32_t wanted_of = 0;
  bool queued = false;

 private:
  std::atomic<bool> open_{true};
  UniqueFd socket_;
  UniqueFd buffer_;
};

/// Who waits for a range of an archive.
struct Waiter {
  std::shared_ptr<Connection> to;
  std::uint64_t offset = 0;
  std::uint32_t length = 0;
};

}  // namespace shardfs
