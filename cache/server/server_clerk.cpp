// The cache server's clerk: opens archives, lists, tidies up. What it waits for is the disk.
#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <system_error>
#include <tuple>
#include <utility>

#include <dirent.h>
#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/server/figures.h"
#include "cache/server/server.h"

namespace shardfs {

namespace {

/// Threads that read the store, at most.
constexpr std::size_t kMostFetchers = 512;

}  // namespace

/// What earlier servers have left counts as used until it is opened or has to go.
void Server::find_mirrors() {
  const UniqueFd fd(::openat(directory_.fd(), "mirror", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  DIR* open = fd ? ::fdopendir(::dup(fd.get())) : nullptr;
  if (open == nullptr) return;
  while (const dirent* entry = ::readdir(open)) {
    struct stat st {};
    if (entry->d_name[0] == '.' || ::fstatat(fd.get(), entry->d_name, &st, 0) != 0) continue;
    const auto bytes = static_cast<std::uint64_t>(st.st_blocks) * 512;
    unopened_[entry->d_name] = bytes;
    budget_.add_found(bytes);
  }
  ::closedir(open);
}

void Server::leave_to_store(std::function<void()> chore) {
  {
    const std::lock_guard lock(mutex_);
    ++at_stores_;
  }
  const auto work = [this, chore = std::move(chore)] {
    chore();
    const std::lock_guard lock(mutex_);
    if (--at_stores_ == 0) store_let_go_.notify_all();
  };
  try {
    std::thread(work).detach();
  } catch (const std::system_error&) {
    work();  // A limit of threads.
  }
}

void Server::leave_to_clerk(std::function<void()> chore) {
  const std::lock_guard lock(mutex_);
  chores_.push_back(std::move(chore));
  chore_.notify_one();
}

void Server::do_chores() {
  std::unique_lock lock(mutex_);
  while (true) {
    chore_.wait(lock, [&] { return stopping_ || !chores_.empty(); });
    if (stopping_) return;
    auto chore = std::move(chores_.front());
    chores_.pop_front();
    lock.unlock();
    chore();
    chore = nullptr;  // What it holds may take its time to close.
    lock.lock();
  }
}

void Server::open_archive(Opening& opening, const ArchiveFacts& facts) {
  Archive archive;
  {
    const std::lock_guard lock(mutex_);
    if (!peers_.contains(opening.client)) return;  // It has gone meanwhile, and its limits with it.
    const auto known = archives_.find(facts.id);
    if (known != archives_.end()) {
      archive = known->second;
      archive->work_began();
    }
    budget_.add_limits(opening.client, opening.request.limits);
  }
  start_blocks(facts.size);
  if (!archive) {
    auto made = make_archive(opening, facts);
    if (!made) return opening.connection->send_error(made.error());
    archive = *made;
  }
  start_fetchers_for_all();
  answer_opened(opening, archive);
  {
    const std::lock_guard lock(mutex_);
    archive->work_ended();
    close_unused(archive);
  }
  if (archive.use_count() == 1) let_go(std::move(archive));
}

void Server::start_fetchers_for_all() {
  std::size_t wanted = 0;
  {
    const std::lock_guard lock(mutex_);
    const unsigned inflight = budget_.limits().store_inflight;
    wanted = inflight;
    for (const auto& [id, archive] : archives_) wanted += std::max(archive->working(), inflight);
  }
  wanted = std::min<std::size_t>(wanted, kMostFetchers);
  while (fetchers_.size() < wanted && start_fetcher()) {
  }
}

Result<Server::Archive> Server::make_archive(Opening& opening, const ArchiveFacts& facts) {
  const bool in_memory = opening.request.tier == Tier::Memory;
  SHARDFS_TRY(auto mirror, in_memory ? Mirror::in_memory(facts.size)
                                     : Mirror::on_disk(directory_, facts.id, facts.size));
  const std::uint64_t units = units_of(facts.size);
  SHARDFS_TRY(auto map, SharedMemory::create("shardfs-units", units));
  SHARDFS_TRY(auto sums, SharedMemory::create("shardfs-sums", units * SumMap::kBytesPerUnit));
  SHARDFS_TRY(auto touches,
              SharedMemory::create("shardfs-touches", units * TouchMap::kBytesPerUnit));
  const bool fresh = in_memory || mirror.is_new();
  if (!in_memory && fresh) ledger_.forget(facts.id);
  if (!in_memory) ledger_.note_path(facts.id, opening.path);
  const auto add_late = [this, id = facts.id](Ledger::Records records) {
    leave_to_clerk([this, id, records = std::move(records)] {
      const std::lock_guard lock(mutex_);
      const auto at = archives_.find(id);
      if (at == archives_.end()) return;
      budget_.add_found(at->second->add_known(records));
      at->second->drop_unknown();
    });
  };
  const auto loaded = fresh ? Ledger::Records() : ledger_.load(facts.id, add_late);
  auto archive = std::make_shared<ArchiveCache>(std::move(opening.store), opening.path, facts,
                                                opening.request.tier, std::move(mirror),
                                                UnitMap(std::move(map)), SumMap(std::move(sums)),
                                                TouchMap(std::move(touches)), budget_, ledger_);
  if (loaded) {
    (void)archive->add_known(*loaded);
    archive->drop_unknown();
  }
  const std::lock_guard lock(mutex_);
  archives_[facts.id] = archive;
  archive->work_began();
  for (const std::string& file : {facts.id.hex(), facts.id.hex() + ".part"}) {
    const auto found = unopened_.find(file);
    if (in_memory || found == unopened_.end()) continue;
    budget_.give_back(found->second, false);
    unopened_.erase(found);
  }
  // What was there is counted by units from now on.
  if (!in_memory) budget_.add_found(archive->present_bytes());
  return archive;
}

/// Made by the first OPEN, then there for good.
BlockStore* Server::blocks() const {
  const std::lock_guard lock(mutex_);
  return blocks_.get();
}

/// Blocks take a share of what the first client's limits allow.
void Server::start_blocks(std::uint64_t archive_bytes) {
  const auto part = [](std::uint64_t bytes, double share) {
    return static_cast<std::uint64_t>(static_cast<double>(bytes) * share);
  };
  const std::uint64_t reach = part(archive_bytes, HotRanges::kReach);
  if (BlockStore* const there = blocks()) return there->reach_at_least(reach);
  const std::uint64_t free = directory_.file_system().free_bytes;
  std::uint64_t most = 0;
  {
    const std::lock_guard lock(mutex_);
    const CacheLimits& limits = budget_.limits();
    most = std::min(limits.bytes, free - std::min(free, limits.reserve));
  }
  auto made = std::make_unique<BlockStore>(directory_.path() + "/blocks",
                                           part(most, HotRanges::kShare), reach);
  const std::lock_guard lock(mutex_);
  blocks_ = std::move(made);
}

void Server::answer_opened(const Opening& opening, const Archive& archive) {
  const auto mirror = archive->mirror.read_only_fd();
  const auto map = archive->map.memory().read_only_fd();
  const auto sums = archive->sum_map.memory().read_only_fd();
  for (const auto* fd : {&mirror, &map, &sums})
    if (!*fd) return opening.connection->send_error(fd->error());
  const std::array<int, 4> fds{mirror->get(), map->get(), sums->get(),
                               archive->touches.memory().fd()};
  OpenedAnswer answer;
  {
    const std::lock_guard lock(mutex_);
    const auto peer = peers_.find(opening.client);
    if (peer == peers_.end()) return;
    answer.archive = static_cast<std::uint32_t>(peer->second.archives.size());
    answer.units = archive->units();
    peer->second.archives.push_back(archive);
    archive->opened(opening.request.limits, opening.request.hints_follow != 0);
    settled_at_ = ArchiveCache::Clock::now() + std::chrono::seconds(1);
  }
  opening.connection->send(Message::Opened, encode(answer), fds);
  work_.notify_all();
}

/// GET, PUT and ABANDON of a decoded block.
void Server::serve_block(Message type, const HotKey& key, std::uint32_t length,
                         std::uint64_t number, const Client& to) {
  BlockStore* const blocks = this->blocks();
  if (type == Message::Get) {
    const auto block = blocks != nullptr ? blocks->get(key) : std::nullopt;
    if (block) return to->send_bytes(*block);
    const std::lock_guard lock(mutex_);
    if (peers_.contains(number)) leases_.ask(key, number, to);
    return;
  }
  if (type == Message::Abandon) {
    const std::lock_guard lock(mutex_);
    leases_.abandon(key, number);
    return to->send(Message::Done);
  }
  Bytes block(length);
  if (::pread(to->buffer(), block.data(), block.size(), 0) != static_cast<ssize_t>(block.size()))
    return to->hang_up();
  // Of more than fits, a part that stays is worth as much as one that keeps changing.
  if (blocks != nullptr && blocks->has_room(length) && has_room_for_blocks())
    blocks->put(key, block);
  to->send(Message::Done);
  const std::lock_guard lock(mutex_);
  leases_.finish(key, number, block);
}

/// For people: all that the directory holds.
std::string Server::listing() {
  std::vector<ListedArchive> listed;
  std::map<std::string, std::uint64_t> unopened;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, archive] : archives_) {
      listed.push_back({id.hex(), archive->store.path(), archive->present_bytes(),
                        archive->facts().size, archive->clients(), std::string(archive->state())});
    }
    unopened = unopened_;
  }
  for (const auto& [file, bytes] : unopened) {
    const auto id = parse_id(file);
    // Of who came to an earlier server nothing is known, but that there is somebody.
    const unsigned clients = is_mirror_in_use(directory_, file) ? 1 : 0;
    listed.push_back({file.substr(0, file.find('.')), id ? ledger_.path_of(*id) : "", bytes, 0,
                      clients, file.ends_with(".part") ? "part" : "sealed"});
  }
  const std::lock_guard lock(mutex_);
  return directory_figures(listed, budget_, directory_, blocks_ ? blocks_->bytes() : 0);
}

/// Drops what no client has open, the oldest first, as far as is asked; returns the bytes.
std::uint64_t Server::clear(const ClearRequest& asked) {
  std::uint64_t freed = 0;
  while (true) {
    const auto now = file_system_of(directory_.fd(), directory_.path());
    {
      const std::lock_guard lock(mutex_);
      const bool is_enough =
          budget_.disk_bytes() <= asked.keep_bytes && now && now->free_bytes >= asked.free_bytes;
      if (unopened_.empty() || (is_enough && asked.keep_bytes > 0)) break;
    }
    const auto dropped = drop_oldest();
    if (!dropped) break;
    freed += *dropped;
  }
  ledger_.flush();
  return freed;
}

/// Of the mirrors that no client has open, nor has from an earlier server. Returns its bytes;
/// nothing where there is none. The clerk's, without the lock: deleting a large file takes a disk
/// its time.
std::optional<std::uint64_t> Server::drop_oldest() {
  std::map<std::string, std::uint64_t> candidates;
  {
    const std::lock_guard lock(mutex_);
    candidates = unopened_;
  }
  std::erase_if(candidates,
                [&](const auto& one) { return is_mirror_in_use(directory_, one.first); });
  const auto written = [&](const auto& one) {
    struct stat st {};
    if (::fstatat(directory_.fd(), ("mirror/" + one.first).c_str(), &st, 0) != 0) st = {};
    return std::pair(st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
  };
  const auto oldest = std::ranges::min_element(candidates, {}, written);
  if (oldest == candidates.end()) return std::nullopt;
  const auto [file, bytes] = *oldest;
  {
    // Only this thread opens mirrors, so it is still not open.
    const std::lock_guard lock(mutex_);
    unopened_.erase(file);
  }
  spdlog::info("{}: dropped, to make room", file);
  remove_mirror(directory_, file);
  if (const auto id = parse_id(file)) {
    ledger_.forget(*id);
    ::unlinkat(directory_.fd(), ("index/" + id->hex()).c_str(), 0);
  }
  const std::lock_guard lock(mutex_);
  budget_.give_back(bytes, false);
  return bytes;
}

}  // namespace shardfs
