#include "cache/server/server.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cache/server/figures.h"

namespace shardfs {

namespace {

using Clock = ArchiveCache::Clock;

/// Threads that read the store, to begin with. The least --store-inflight of all clients bounds how
/// many work for one archive at a time, and there come to be as many for each archive: of one whose
/// store hangs all may hang.
constexpr unsigned kFetchers = 32;
/// Threads that look at archives in their stores, or close them.
constexpr unsigned kMostAtStores = 256;
/// Units that are given back at a time, 1 GiB: punching as many holes takes some 20 ms.
constexpr unsigned kMostGivenBack = 256;
/// Without a client for so long after its start, nobody is going to come.
constexpr std::chrono::seconds kLonely{10};
constexpr std::size_t kMostClients = 4096;

HotKey block_key(const BlockKey& key) {
  // Decoded blocks lie apart from ranges: no archive has this many bytes.
  constexpr std::uint64_t kDecoded = std::uint64_t{1} << 63;
  return {key.archive.bytes, key.position, kDecoded | std::uint64_t{key.kind} << 32 | key.length};
}

std::vector<HintRange> hint_ranges(ByteSpan bytes) {
  std::vector<HintRange> ranges(bytes.size() / sizeof(HintRange));
  if (!ranges.empty()) std::memcpy(ranges.data(), bytes.data(), ranges.size() * sizeof(HintRange));
  return ranges;
}

}  // namespace

Server::Server(const CacheDirectory& directory, UniqueFd listening,
               std::function<bool()> still_ours)
    : directory_(directory),
      listening_(std::move(listening)),
      still_ours_(std::move(still_ours)),
      ledger_(directory.path() + "/ledger"),
      budget_(directory) {
  find_mirrors();
}

void Server::stop() {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    stopping_ = true;
  }
  work_.notify_all();
  chore_.notify_all();
  ledger_.flush();
  if (clerk_.joinable()) clerk_.join();
  for (std::thread& thread : fetchers_) thread.join();
  {
    std::unique_lock lock(mutex_);
    store_let_go_.wait(lock, [&] { return at_stores_ == 0; });
  }
  ledger_.stop();
}

// ---- the caller's thread: requests ----

void Server::run(int ending) {
  while (fetchers_.size() < kFetchers && start_fetcher()) {
  }
  if (fetchers_.empty()) return;  // Clients do better without a server.
  try {
    clerk_ = std::thread([this] { do_chores(); });
  } catch (const std::system_error& error) {
    return spdlog::warn("a limit of threads: {}", error.what());
  }
  const auto start = Clock::now();
  bool had_client = false;
  auto checked = start;
  while (true) {
    const bool may_accept = Clock::now() >= accept_after_;
    std::vector<pollfd> waits{{may_accept ? listening_.get() : -1, POLLIN, 0}, {ending, POLLIN, 0}};
    std::vector<std::uint64_t> numbers;
    for (const auto& [number, peer] : peers_) {
      waits.push_back({peer.connection->socket(), POLLIN, 0});
      numbers.push_back(number);
    }
    had_client = had_client || !numbers.empty();
    if (numbers.empty() && (had_client || Clock::now() - start > kLonely)) return;
    const int ready = ::poll(waits.data(), waits.size(), tick_ms());
    if (waits[1].revents != 0) return;
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      if (waits[i + 2].revents != 0) serve(peers_.at(numbers[i]));
    }
    if (waits[0].revents != 0) accept_clients();
    if (ready == 0) work_.notify_all();  // Pauses end without anybody's saying so.
    if (Clock::now() - checked < std::chrono::seconds(1)) continue;
    checked = Clock::now();
    if (!still_ours_()) return;
    give_room_back();
    work_.notify_all();
  }
}

/// How long a pause may last beyond its end. Short where there are short ones: before an archive
/// that was just opened is staged, and between small reads that are bounded in number a second.
int Server::tick_ms() {
  constexpr int kShort = 10, kLong = 1000;
  const std::lock_guard lock(mutex_);
  const bool rated =
      budget_.limits().store_rate != 0 && std::ranges::any_of(archives_, [](const auto& archive) {
        return archive.second->has_ranges_due();
      });
  return rated || Clock::now() < settled_at_ ? kShort : kLong;
}

bool Server::start_fetcher() {
  try {
    {
      const std::lock_guard lock(mutex_);
      buffers_.emplace_back(kUnitBytes);
    }
    fetchers_.emplace_back([this] { fetch(); });
    return true;
  } catch (const std::exception& error) {  // no memory, or a limit of threads
    spdlog::warn("{} threads that read archives, and no more: {}", fetchers_.size(), error.what());
    return false;
  }
}

/// Where others need the disk: what was fetched can be fetched again.
void Server::give_room_back() {
  const std::lock_guard lock(mutex_);
  std::uint64_t excess = peers_.empty() ? 0 : budget_.excess();
  if (excess == 0) return;
  budget_.note_excess();
  make_room();
  if (making_room_) return;  // Archives that nobody has open go first.
  unsigned given_back = 0;
  for (bool any = true; any && excess > 0 && given_back < kMostGivenBack;) {
    any = false;
    for (const auto& [id, archive] : archives_) {
      const std::uint64_t bytes = excess > 0 ? archive->give_up_unit() : 0;
      excess -= std::min(excess, bytes);
      any = any || bytes > 0;
      ++given_back;
    }
  }
}

void Server::accept_clients() {
  while (true) {
    UniqueFd socket(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) {
      // Who waits there would wake this thread again at once.
      if (errno == EMFILE || errno == ENFILE)
        accept_after_ = Clock::now() + std::chrono::seconds(1);
      return;
    }
    const auto uid = peer_uid(socket.get());
    if (!uid || *uid != ::geteuid() || peers_.size() >= kMostClients) continue;
    const std::uint64_t number = next_client_++;
    const std::lock_guard lock(mutex_);
    peers_[number] = {std::make_shared<Connection>(std::move(socket)), number, {}};
  }
}

/// Everything that has come from one client. A client that says what makes no sense is dropped.
void Server::serve(Peer& peer) {
  const std::uint64_t number = peer.number;
  while (true) {
    auto packet = receive_packet(peer.connection->socket());
    if (!packet && packet.error().sys_errno == EAGAIN) return;
    if (!packet && packet.error().kind == ErrorKind::Invalid)
      spdlog::warn("a client is dropped: {}", packet.error().message);
    if (!packet || !handle(peer, *std::move(packet))) return drop(number);
  }
}

void Server::drop(std::uint64_t number) {
  std::unique_lock lock(mutex_);
  const auto at = peers_.find(number);
  at->second.connection->hang_up();
  // Closing takes its time: that of the store, and of memory that is freed.
  auto closing = std::move(at->second.archives);
  for (const Archive& archive : closing) {
    archive->closed();
    close_unused(archive);
  }
  leases_.abandon_all(number);
  budget_.remove_limits(number);
  peers_.erase(at);
  lock.unlock();
  if (!closing.empty()) let_go(std::move(closing));
}

/// What lies in memory goes with its last reader; what is on the disk stays as long as there is
/// room. Whoever is at work on it does this afterwards.
void Server::close_unused(const Archive& archive) {
  if (archive->clients() > 0 || archive->is_at_work()) return;
  const auto at = archives_.find(archive->facts().id);
  if (at == archives_.end() || at->second != archive) return;
  const bool in_memory = archive->mirror.is_in_memory();
  const std::uint64_t kept = in_memory ? 0 : archive->present_bytes();
  budget_.landed(archive->taken_bytes() - archive->present_bytes(), in_memory);
  budget_.give_back(archive->taken_bytes() - kept, in_memory);
  const std::string file = archive->facts().id.hex();
  if (!in_memory) {
    unopened_[archive->mirror.is_sealed() ? file : file + ".part"] = kept;
    make_room_at_ = {};
  }
  archives_.erase(at);
}

bool Server::handle(Peer& peer, Packet packet) {
  if (packet.type == Message::Ping) {
    peer.connection->send(Message::Pong, encode(pong_for(peer)));
    return true;
  }
  if (packet.type == Message::Hello) return handle_hello(peer, packet);
  if (!peer.connection->is_greeted() || peer.connection->busy.exchange(true)) return false;
  switch (packet.type) {
    case Message::Open:
      return handle_open(peer, packet);
    case Message::Want:
      return handle_want(peer, packet);
    case Message::Hint:
      return handle_hint(peer, packet);
    case Message::Get:
    case Message::Put:
    case Message::Abandon:
      return handle_block(peer, packet);
    case Message::Stat:
      return handle_stat(peer, packet);
    case Message::Clear:
      return handle_clear(peer, packet);
    default:
      return false;
  }
}

PongAnswer Server::pong_for(const Peer& peer) {
  const std::lock_guard lock(mutex_);
  const Connection& to = *peer.connection;
  if (!to.busy || !to.queued || to.wanted_of >= peer.archives.size()) return {};
  const auto silent = std::chrono::floor<std::chrono::milliseconds>(
      Clock::now() - peer.archives[to.wanted_of]->gave());
  return {static_cast<std::uint32_t>(
      std::clamp<std::int64_t>(silent.count(), 0, PongAnswer::kItsTurn - 1))};
}

bool Server::handle_hello(Peer& peer, Packet& packet) {
  if (peer.connection->is_greeted() || !packet.as<HelloRequest>() || !packet.fds[0]) return false;
  peer.connection->greet(std::move(packet.fds[0]));
  peer.connection->send(Message::Welcome,
                        encode(WelcomeAnswer{static_cast<std::uint32_t>(::getpid())}));
  return true;
}

bool Server::handle_open(Peer& peer, Packet& packet) {
  const auto request = packet.as<OpenRequest>();
  if (!request || !packet.fds[0] || request->tier > Tier::Partial || request->tier == Tier::None)
    return false;
  if (at_stores_ >= kMostAtStores) {  // Of a store that hangs, and clients that ask again.
    peer.connection->send_error(fail_errno(EAGAIN, "cache", "the archive's storage hangs").error());
    return true;
  }
  auto opening = std::make_shared<Opening>(
      Opening{peer.number, peer.connection, *request,
              std::string(as_text(packet.after<OpenRequest>())), std::move(packet.fds[0])});
  leave_to_store([this, opening] {
    const auto facts = archive_facts(opening->store.get(), opening->path);
    if (!facts) return opening->connection->send_error(facts.error());
    leave_to_clerk([this, opening, facts = *facts] {
      open_archive(*opening, facts);
      if (opening->store) let_go(std::move(opening->store));
    });
  });
  return true;
}

bool Server::handle_want(Peer& peer, const Packet& packet) {
  const auto request = packet.as<WantRequest>();
  const std::lock_guard lock(mutex_);
  if (!request || request->archive >= peer.archives.size()) return false;
  peer.connection->wanted_of = request->archive;
  peer.archives[request->archive]->want({peer.connection, request->offset, request->length},
                                        (request->flags & WantRequest::kDistrust) != 0);
  work_.notify_one();
  return true;
}

bool Server::handle_hint(Peer& peer, const Packet& packet) {
  const auto request = packet.as<HintRequest>();
  const std::lock_guard lock(mutex_);
  if (!request || request->archive >= peer.archives.size()) return false;
  const auto ranges = hint_ranges(packet.after<HintRequest>());
  peer.archives[request->archive]->hint(ranges, request->flags);
  peer.connection->send(Message::Done);
  work_.notify_all();
  return true;
}

bool Server::handle_block(Peer& peer, const Packet& packet) {
  const auto request = packet.as<BlockKey>();
  if (!request || request->length == 0 || request->length > kBufferBytes) return false;
  leave_to_clerk([this, type = packet.type, key = block_key(*request), length = request->length,
                  number = peer.number,
                  to = peer.connection] { serve_block(type, key, length, number, to); });
  return true;
}

bool Server::handle_stat(Peer& peer, const Packet& packet) {
  const auto request = packet.as<StatRequest>();
  if (!request) return false;
  if (request->archive >= peer.archives.size()) {
    leave_to_clerk([this, to = peer.connection] { to->send(Message::Stats, as_bytes(listing())); });
    return true;
  }
  std::string text;
  {
    const std::lock_guard lock(mutex_);
    text = stats_of(*peer.archives[request->archive]);
  }
  peer.connection->send(Message::Stats, as_bytes(text));
  return true;
}

std::string Server::stats_of(ArchiveCache& archive) const {
  return archive_figures(archive, budget_, directory_, blocks_ ? blocks_->bytes() : 0);
}

bool Server::handle_clear(Peer& peer, const Packet& packet) {
  const auto request = packet.as<ClearRequest>();
  if (!request) return false;
  leave_to_clerk([this, asked = *request, to = peer.connection] {
    const std::string answer = fmt::format("{{\"freed_bytes\":{}}}", clear(asked));
    to->send(Message::Stats, as_bytes(answer));
  });
  return true;
}

}  // namespace shardfs
