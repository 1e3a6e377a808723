#include "cache/common/protocol.h"

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>
#include <sys/socket.h>

namespace shardfs {

namespace {

struct PacketHeader {
  std::uint32_t protocol = kProtocol;
  std::uint16_t type = 0;
  std::uint16_t zero = 0;
  std::uint32_t size = 0;  ///< of the payload
};

constexpr std::size_t kMaxFds = std::tuple_size_v<decltype(Packet::fds)>;

/// Room for the descriptors of one packet.
union Ancillary {
  cmsghdr header;
  std::array<char, CMSG_SPACE(kMaxFds * sizeof(int))> bytes;
};

void attach(msghdr& message, Ancillary& room, std::span<const int> fds) {
  if (fds.empty()) return;
  message.msg_control = room.bytes.data();
  message.msg_controllen = CMSG_SPACE(fds.size_bytes());
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(fds.size_bytes());
  std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
}

/// Takes the descriptors out of a message, so that none leaks whatever the packet is.
void detach(msghdr& message, std::array<UniqueFd, kMaxFds>& fds) {
  std::size_t taken = 0;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
      UniqueFd owned(fd);
      if (taken < fds.size()) fds[taken++] = std::move(owned);
    }
  }
}

}  // namespace

std::string_view name(Tier tier) {
  switch (tier) {
    case Tier::None:
      return "none";
    case Tier::Memory:
      return "memory";
    case Tier::Disk:
      return "disk";
    case Tier::Partial:
      return "partial";
  }
  return "unknown";
}

Result<void> send_packet(int socket, Message type, ByteSpan payload, std::span<const int> fds) {
  PacketHeader header;
  header.type = static_cast<std::uint16_t>(type);
  header.size = static_cast<std::uint32_t>(payload.size());
  std::array<iovec, 2> parts{iovec{&header, sizeof header},
                             iovec{const_cast<std::byte*>(payload.data()), payload.size()}};
  msghdr message = {};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  Ancillary room = {};
  attach(message, room, fds);
  ssize_t sent;
  do {
    sent = ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return fail_errno(errno, "cache", "cannot send");
  return {};
}

Result<Packet> receive_packet(int socket) {
  thread_local Bytes room(kPacketBytes);
  iovec part{room.data(), room.size()};
  Ancillary ancillary = {};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = ancillary.bytes.data();
  message.msg_controllen = sizeof ancillary;
  ssize_t got;
  do {
    got = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && errno == ECONNRESET) got = 0;
  if (got < 0) return fail_errno(errno, "cache", "cannot receive");
  Packet packet;
  detach(message, packet.fds);
  if (got == 0) return fail(ErrorKind::NotFound, "cache: the other end has closed");
  const ByteSpan bytes = ByteSpan(room).first(static_cast<std::size_t>(got));
  PacketHeader header;
  if (bytes.size() >= sizeof header) std::memcpy(&header, bytes.data(), sizeof header);
  if (bytes.size() < sizeof header || header.protocol != kProtocol || header.zero != 0 ||
      (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 ||
      header.size != bytes.size() - sizeof header)
    return fail(ErrorKind::Invalid,
                fmt::format("cache: the other end speaks another protocol than {:#x}", kProtocol));
  packet.type = static_cast<Message>(header.type);
  const ByteSpan payload = bytes.subspan(sizeof header);
  packet.payload.assign(payload.begin(), payload.end());
  return packet;
}

Error failure_in(const Packet& packet) {
  const auto fixed = packet.as<FailedAnswer>().value_or(FailedAnswer{EIO, 0});
  const bool known = fixed.kind <= static_cast<std::uint32_t>(ErrorKind::Interrupted);
  return {known ? static_cast<ErrorKind>(fixed.kind) : ErrorKind::Io, fixed.sys_errno,
          std::string(as_text(packet.after<FailedAnswer>()))};
}

std::optional<std::uint32_t> peer_uid(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return std::nullopt;
  return peer.uid;
}

}  // namespace shardfs
