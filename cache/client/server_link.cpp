#include "cache/client/server_link.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cache/common/cache_directory.h"

namespace shardfs {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

/// How often a client that waits asks whether the server is alive.
constexpr milliseconds kPingEvery{500};
/// Beyond the server's own limit for one fetch, before a client gives up.
constexpr milliseconds kGrace{2000};
/// How often it is looked for a server, and one is started: another process may hold the lock that
/// is about to end, or that does not serve.
constexpr milliseconds kLookEvery{20}, kStartEvery{300};

std::unexpected<Error> gone(std::string what) {
  return fail(ErrorKind::NotFound, "cache: " + std::move(what));
}

}  // namespace

// ---- one connection ----

Result<std::unique_ptr<Line>> Line::open(UniqueFd socket, const CacheOptions& options, int store,
                                         const std::string& path, Unit units, int cancel) {
  std::unique_ptr<Line> line(
      new Line(std::move(socket), cancel, milliseconds(options.limits.timeout_ms) + kGrace));
  SHARDFS_CHECK(line->greet());
  SHARDFS_CHECK(line->attach(options, store, path, units));
  return line;
}

Result<std::unique_ptr<Line>> Line::open_to_directory(UniqueFd socket, int cancel) {
  std::unique_ptr<Line> line(
      new Line(std::move(socket), cancel, milliseconds(CacheLimits{}.timeout_ms)));
  SHARDFS_CHECK(line->greet());
  return line;
}

Result<void> Line::greet() {
  buffer_.reset(::memfd_create("shardfs-buffer", MFD_CLOEXEC));
  if (!buffer_) return fail_errno(errno, "cache", "cannot make a buffer");
  const std::array<int, 1> fds{buffer_.get()};
  SHARDFS_TRY(
      const Packet answer,
      call(Message::Hello, encode(HelloRequest{static_cast<std::uint32_t>(::getpid())}), fds));
  if (answer.type != Message::Welcome) return gone("the server speaks another protocol");
  return {};
}

Result<void> Line::attach(const CacheOptions& options, int store, const std::string& path,
                          Unit units) {
  OpenRequest request;
  request.limits = options.limits;
  request.tier = options.tier;
  request.hints_follow = options.hints_follow ? 1 : 0;
  const std::array<int, 1> fds{store};
  SHARDFS_TRY(Packet answer, call(Message::Open, encode(request, as_bytes(path)), fds));
  if (answer.type == Message::Failed) return std::unexpected(failure_in(answer));
  const auto opened = answer.as<OpenedAnswer>();
  if (answer.type != Message::Opened || !opened || !answer.fds[3])
    return gone("the server speaks another protocol");
  // Arrays of another size would be read beyond their end.
  if (opened->units != units) return gone("the archive is not as long as it was");
  auto attached = std::make_shared<Attached>();
  attached->mirror = std::move(answer.fds[0]);
  SHARDFS_TRY(auto map, SharedMemory::map(std::move(answer.fds[1]), opened->units, false));
  SHARDFS_TRY(auto sums, SharedMemory::map(std::move(answer.fds[2]),
                                           opened->units * SumMap::kBytesPerUnit, false));
  SHARDFS_TRY(auto touches, SharedMemory::map(std::move(answer.fds[3]),
                                              opened->units * TouchMap::kBytesPerUnit, true));
  attached->map = UnitMap(std::move(map));
  attached->sums = SumMap(std::move(sums));
  attached->touches = TouchMap(std::move(touches));
  archive_ = opened->archive;
  attached_ = std::move(attached);
  return {};
}

Result<Packet> Line::call(Message type, ByteSpan payload, std::span<const int> fds,
                          std::optional<milliseconds> timeout) {
  if (const auto sent = send_packet(socket_.get(), type, payload, fds); !sent)
    return gone(sent.error().message);
  const milliseconds patience = timeout.value_or(timeout_);
  milliseconds waited{0}, silent{0};  // since the call; since a ping that has no answer yet
  bool pinged = false;
  std::array<pollfd, 2> waits{pollfd{socket_.get(), POLLIN, 0}, pollfd{cancel_, POLLIN, 0}};
  while (true) {
    const auto before = Clock::now();
    const auto pause = std::clamp(patience - waited, milliseconds(1), milliseconds(kPingEvery));
    ::poll(waits.data(), waits.size(), static_cast<int>(pause.count()));
    if (waits[1].revents != 0) return fail(ErrorKind::Interrupted, "cache: unmounting");
    auto packet = receive_packet(socket_.get());
    if (packet && packet->type != Message::Pong) return packet;
    // Of the time that a job was suspended no more counts: nobody could have answered.
    const auto passed = std::min(std::chrono::ceil<milliseconds>(Clock::now() - before),
                                 milliseconds(2 * kPingEvery));
    waited += passed;
    silent = pinged && !packet ? silent + passed : milliseconds(0);
    if (packet) {
      pinged = false;
      // Others have their turn first: that is no fault of the store as long as it gives something.
      if (const auto pong = packet->as<PongAnswer>();
          pong && pong->silent_ms != PongAnswer::kItsTurn)
        waited = std::min(waited, milliseconds(pong->silent_ms));
      continue;
    }
    if (packet.error().sys_errno != EAGAIN) return gone(packet.error().message);
    if (waited > patience) return fail_errno(ETIMEDOUT, "cache", "no answer");
    if (silent > kDeadAfter) return gone("the server does not answer");
    if (!pinged) pinged = send_packet(socket_.get(), Message::Ping).has_value();
  }
}

Result<void> Line::take_buffer(std::span<std::byte> out) const {
  const ssize_t n = ::pread(buffer_.get(), out.data(), out.size(), 0);
  if (n != static_cast<ssize_t>(out.size())) return gone("a short answer");
  return {};
}

Result<void> Line::fill_buffer(ByteSpan bytes) const {
  const ssize_t n = ::pwrite(buffer_.get(), bytes.data(), bytes.size(), 0);
  if (n != static_cast<ssize_t>(bytes.size())) return gone("the buffer cannot be written");
  return {};
}

// ---- the pool ----

ServerLink::ServerLink(CacheOptions options, int store, std::string path, Unit units)
    : options_(std::move(options)),
      store_(store),
      path_(std::move(path)),
      units_(units),
      facts_(archive_facts(store, path_)),
      cancel_(::eventfd(0, EFD_CLOEXEC)),
      pid_(::getpid()) {}

Result<std::unique_ptr<Line>> ServerLink::take() {
  if (cancelled_) return fail(ErrorKind::Interrupted, "cache: unmounting");
  std::vector<std::unique_ptr<Line>> parents;  // closed once this process has a line of its own
  {
    const std::lock_guard lock(mutex_);
    if (pid_ != ::getpid()) {
      parents = std::exchange(free_, {});
      pid_ = ::getpid();
    }
    if (!free_.empty()) {
      auto line = std::move(free_.back());
      free_.pop_back();
      return line;
    }
  }
  return connect();
}

void ServerLink::give_back(std::unique_ptr<Line> line) {
  const std::lock_guard lock(mutex_);
  free_.push_back(std::move(line));
}

void ServerLink::forget_all() {
  std::vector<std::unique_ptr<Line>> dropped;
  const std::lock_guard lock(mutex_);
  dropped.swap(free_);
}

void ServerLink::cancel() {
  cancelled_ = true;
  ::eventfd_write(cancel_.get(), 1);
}

Result<UniqueFd> ServerLink::connect_once() const {
  // A directory of somebody else is never used, not even to look for a socket.
  SHARDFS_TRY(const auto directory, CacheDirectory::open(options_.parent));
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const std::string path = directory.short_path("socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  if (!socket ||
      ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return gone("no server");
  const auto uid = peer_uid(socket.get());
  if (!uid || *uid != ::geteuid())
    return fail(ErrorKind::Unsupported,
                fmt::format("{}: its server runs as somebody else", directory.path()));
  return socket;
}

// It detaches itself and returns at once, also where another one was first.
Result<void> ServerLink::start_server() const {
  std::string command = options_.server_command;
  if (command.empty()) command = "/proc/self/exe";
  std::string name = "shardfs", verb = "cache-server", parent = options_.parent;
  std::array<char*, 4> arguments{name.data(), verb.data(), parent.data(), nullptr};
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  pid_t pid = 0;
  const int code =
      ::posix_spawn(&pid, command.c_str(), nullptr, &attributes, arguments.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  if (code != 0) return fail_errno(code, command, "cannot start the cache server");
  // It is not waited for longer than for anything else: it may be stopped.
  const auto end = Clock::now() + kPatience;
  int status = 0;
  while (::waitpid(pid, &status, WNOHANG) == 0) {
    if (Clock::now() > end || cancelled_) {
      try {
        std::thread([pid] { ::waitpid(pid, nullptr, 0); }).detach();
      } catch (const std::system_error&) {
        // A limit of threads: it stays a zombie until this process ends.
      }
      return gone("the server is slow to start");
    }
    std::this_thread::sleep_for(milliseconds(1));
  }
  if (status == 0) return {};
  // It has said why, on standard error. Killed, the next one may fare better.
  const bool refused = WIFEXITED(status) && WEXITSTATUS(status) == kCannotServe;
  if (!refused) return gone("the server ended before it was ready");
  return fail(ErrorKind::Unsupported,
              fmt::format("{}: the cache server cannot be started there", options_.parent));
}

Result<UniqueFd> ServerLink::connect_or_start(Clock::time_point& start_at) const {
  auto socket = connect_once();
  if (socket || socket.error().kind != ErrorKind::NotFound || Clock::now() < start_at)
    return socket;
  SHARDFS_CHECK(start_server());
  start_at = Clock::now() + kStartEvery;
  return connect_once();
}

Result<std::unique_ptr<Line>> ServerLink::find_server(
    const std::function<Result<std::unique_ptr<Line>>(UniqueFd)>& open) const {
  const auto end = Clock::now() + kPatience;
  Clock::time_point start_at{};
  while (true) {
    auto socket = connect_or_start(start_at);
    auto line = socket ? open(*std::move(socket)) : std::unexpected(socket.error());
    if (line || line.error().kind != ErrorKind::NotFound || Clock::now() > end || cancelled_)
      return line;
    std::this_thread::sleep_for(kLookEvery);
  }
}

Result<std::string> ServerLink::ask_directory(const std::string& parent, Message request,
                                              ByteSpan payload) {
  CacheOptions options;
  options.parent = parent;
  const ServerLink link(std::move(options), -1, "", 0);
  SHARDFS_TRY(const auto line, link.find_server([&](UniqueFd socket) {
    return Line::open_to_directory(std::move(socket), link.cancel_.get());
  }));
  SHARDFS_TRY(const Packet answer, line->call(request, payload));
  if (answer.type != Message::Stats) return gone("the server speaks another protocol");
  return std::string(as_text(answer.payload));
}

// Another server would take it for another archive.
Result<void> ServerLink::check_unchanged() const {
  const auto now = archive_facts(store_, path_);
  if (!facts_ || !now || now->same_content(*facts_)) return {};
  return fail(
      ErrorKind::Corrupt,
      fmt::format("{}: was changed while in use; try: unmount it and mount it again", path_));
}

Result<std::unique_ptr<Line>> ServerLink::connect() {
  // While there is none, one thread keeps looking, and the others go without.
  std::unique_lock lock(connecting_, std::defer_lock);
  if (absent_ && !lock.try_lock()) return gone("no server");
  if (!lock) lock.lock();
  if (cancelled_) return fail(ErrorKind::Interrupted, "cache: unmounting");
  if (Clock::now() < not_before_) return gone("no server");
  SHARDFS_CHECK(check_unchanged());
  auto line = find_server([this](UniqueFd socket) {
    return Line::open(std::move(socket), options_, store_, path_, units_, cancel_.get());
  });
  absent_ = !line.has_value();
  if (!line) not_before_ = Clock::now() + std::chrono::seconds(1);
  return line;
}

}  // namespace shardfs
