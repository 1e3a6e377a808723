// What a cache server and its clients say to each other (cache/PROTOCOL.md).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "cache/common/archive_id.h"
#include "fs/base/bytes.h"
#include "fs/base/result.h"
#include "fs/base/unique_fd.h"

namespace shardfs {

/// Stands in front of every packet, whose first four bytes never change their place, so that a peer
/// of another version is recognised.
inline constexpr std::uint32_t kProtocol = 0x53464301;

/// What `shardfs cache-server` exits with where no server can serve the directory, as against one
/// that was killed before it could.
inline constexpr int kCannotServe = 2;

/// Most bytes that one WANT, GET or PUT is about: the size of a client's buffer.
inline constexpr std::uint32_t kBufferBytes = 1024 * 1024;

/// Most bytes of a packet, header included.
inline constexpr std::size_t kPacketBytes = 32 * 1024;

/// A client sends a request and waits for its answer before it sends another; only PING may be sent
/// while waiting.
enum class Message : std::uint16_t {
  // Requests.
  Hello = 1,  ///< pid; with the client's buffer, a memfd of kBufferBytes
  Open,       ///< an archive and how it is to be cached; with its descriptor
  Want,       ///< a range of an open archive
  Hint,       ///< ranges that will be wanted, in order
  Get,        ///< a decoded block by key
  Put,        ///< a decoded block, in the buffer
  Abandon,    ///< a lease that comes to nothing
  Stat,       ///< figures of an open archive
  Ping,       ///< is the server alive? answered at once, whatever else is pending
  Clear,      ///< drop what no client has open, as far as that is asked
  // Answers.
  Welcome = 100,
  Opened,  ///< with mirror, unit map, sum map and touch map
  Local,   ///< it is in the mirror
  Buffer,  ///< it is in the client's buffer
  Lease,   ///< nobody has it: decode it, then PUT or ABANDON
  Done,
  Failed,  ///< an error of the store or of the request
  Stats,   ///< JSON
  Pong,
};

/// How an archive is to be cached.
enum class Tier : std::uint8_t {
  None,     ///< read in place
  Memory,   ///< mirror in the server's memory
  Disk,     ///< mirror on the node's disk, of the whole archive
  Partial,  ///< mirror on the node's disk, of as many units as fit
};
[[nodiscard]] std::string_view name(Tier tier);

struct HelloRequest {
  std::uint32_t pid = 0;
};

struct WelcomeAnswer {
  std::uint32_t pid = 0;  ///< of the server
};

/// What bounds the work for one archive. Of several clients' bounds the least counts.
struct CacheLimits {
  std::uint64_t bytes = UINT64_MAX;   ///< of the cache directory's file system, for all archives
  std::uint64_t reserve = 0;          ///< bytes there that are left to others
  std::uint64_t memory = 0;           ///< bytes of memory for mirrors of the memory tier
  std::uint32_t store_rate = 0;       ///< small requests to the store a second; 0: no bound
  std::uint32_t store_inflight = 8;   ///< requests to the store at a time
  std::uint32_t timeout_ms = 60'000;  ///< for one fetch, retries included
  std::uint32_t jitter_ms = 0;        ///< most that staging waits before it begins
};

/// Followed by the archive's path, for messages.
struct OpenRequest {
  CacheLimits limits;
  Tier tier = Tier::Disk;
  /// 1: a HINT follows at once; until it has come, but for some seconds at most, nothing is staged.
  std::uint8_t hints_follow = 0;
  std::array<std::uint8_t, 6> zero{};
};

struct OpenedAnswer {
  std::uint32_t archive = 0;  ///< its number on this connection's server
  std::uint32_t units = 0;
};

struct WantRequest {
  std::uint64_t offset = 0;
  std::uint32_t length = 0;
  std::uint32_t archive = 0;
  std::uint32_t flags = 0;
  std::uint32_t zero = 0;
  /// What the mirror has is damaged: fetch it anew, and answer from the store.
  static constexpr std::uint32_t kDistrust = 1;
};

/// Followed by HintRanges.
struct HintRequest {
  std::uint32_t archive = 0;
  std::uint32_t flags = 0;
  static constexpr std::uint32_t kReplace = 1;  ///< forget what was hinted before
  static constexpr std::uint32_t kMore = 2;     ///< the list goes on in the next request
};
struct HintRange {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

/// Of a decoded block. `kind` is the codec's business.
struct BlockKey {
  ArchiveId archive;
  std::uint64_t position = 0;
  std::uint32_t length = 0;
  std::uint32_t kind = 0;
  friend bool operator==(const BlockKey&, const BlockKey&) = default;
};

struct BufferAnswer {
  std::uint32_t length = 0;
};

struct PongAnswer {
  /// Of a WANT that waits behind others for its turn at the store: for how long the store has given
  /// nothing to anybody. Else kItsTurn: it has begun, or nothing is wanted.
  std::uint32_t silent_ms = kItsTurn;
  static constexpr std::uint32_t kItsTurn = UINT32_MAX;
};

/// Followed by text.
struct FailedAnswer {
  std::int32_t sys_errno = 0;
  std::uint32_t kind = 0;  ///< an ErrorKind
};

/// Mirrors that no client has open are dropped, the oldest first, until both hold.
struct ClearRequest {
  std::uint64_t keep_bytes = 0;  ///< the directory holds no more
  std::uint64_t free_bytes = 0;  ///< its file system has as much free
};

struct StatRequest {
  std::uint32_t archive = 0;
};

/// One packet as it came.
struct Packet {
  Message type{};
  Bytes payload;
  std::array<UniqueFd, 4> fds;

  /// The fixed part of the payload; nothing if it is too short.
  template <typename T>
  [[nodiscard]] std::optional<T> as() const {
    if (payload.size() < sizeof(T)) return std::nullopt;
    T value;
    std::memcpy(&value, payload.data(), sizeof value);
    return value;
  }
  /// What follows the fixed part.
  template <typename T>
  [[nodiscard]] ByteSpan after() const {
    return ByteSpan(payload).subspan(std::min(sizeof(T), payload.size()));
  }
};

/// What a FAILED answer says.
[[nodiscard]] Error failure_in(const Packet& packet);

template <typename T>
[[nodiscard]] Bytes encode(const T& fixed, ByteSpan rest = {}) {
  static_assert(std::is_trivially_copyable_v<T>);
  Bytes bytes(sizeof fixed);
  std::memcpy(bytes.data(), &fixed, sizeof fixed);
  append(bytes, rest);
  return bytes;
}

/// Sends one packet, or fails: Io with EAGAIN where the peer does not read, EPIPE where it is gone.
/// Never waits. Any thread.
[[nodiscard]] Result<void> send_packet(int socket, Message type, ByteSpan payload = {},
                                       std::span<const int> fds = {});

/// Takes one packet. NotFound: the peer has closed; Io with EAGAIN: there is none now; Invalid: it
/// is no packet of this protocol's version.
[[nodiscard]] Result<Packet> receive_packet(int socket);

/// The user at the other end of a Unix socket.
[[nodiscard]] std::optional<std::uint32_t> peer_uid(int socket);

}  // namespace shardfs
