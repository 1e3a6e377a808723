// The cache server: one process a cache directory, the only one that reads the archives' store and
// writes to the directory.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "cache/common/cache_directory.h"
#include "cache/common/protocol.h"
#include "cache/server/archive_cache.h"
#include "cache/server/block_store.h"
#include "cache/server/budget.h"
#include "cache/server/connection.h"
#include "cache/server/leases.h"
#include "cache/server/ledger.h"
#include "fs/base/page_buffer.h"

namespace shardfs {

/// Threads: the caller's, which waits for requests and for neither store nor disk (it gives room on
/// the disk back, which takes microseconds); fetchers, which read the store and write the mirrors,
/// as many as all archives may have at work; a clerk, which opens archives and tidies up; one each
/// for looking at an archive in its store and for closing it; the ledger's. All state is under one
/// lock, and none of them holds it while it waits for a store or a disk.
class Server {
 public:
  /// `listening`: a bound SOCK_SEQPACKET socket. `still_ours` says whether the directory's lock and
  /// socket are still this process's; asked every second.
  Server(const CacheDirectory& directory, UniqueFd listening, std::function<bool()> still_ours);
  ~Server() { stop(); }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Serves until the last client has gone, or lock or socket are no longer this process's, or a
  /// signal says so (`ending`, a descriptor that becomes readable).
  void run(int ending);

  /// Writes the ledger and ends what is under way, as soon as the store lets go of it.
  void stop();

 private:
  using Client = std::shared_ptr<Connection>;
  using Archive = std::shared_ptr<ArchiveCache>;

  /// A client's state. An archive's number is its place in `archives`.
  struct Peer {
    Client connection;
    std::uint64_t number = 0;
    std::vector<Archive> archives;
  };
  struct Opening {
    std::uint64_t client = 0;
    Client connection;
    OpenRequest request;
    std::string path;
    UniqueFd store;
  };

  // The caller's thread.
  [[nodiscard]] int tick_ms();
  void accept_clients();
  void serve(Peer& peer);
  [[nodiscard]] bool handle(Peer& peer, Packet packet);
  [[nodiscard]] PongAnswer pong_for(const Peer& peer);
  [[nodiscard]] bool handle_hello(Peer& peer, Packet& packet);
  [[nodiscard]] bool handle_open(Peer& peer, Packet& packet);
  [[nodiscard]] bool handle_want(Peer& peer, const Packet& packet);
  [[nodiscard]] bool handle_hint(Peer& peer, const Packet& packet);
  [[nodiscard]] bool handle_stat(Peer& peer, const Packet& packet);
  [[nodiscard]] bool handle_block(Peer& peer, const Packet& packet);
  [[nodiscard]] bool handle_clear(Peer& peer, const Packet& packet);
  void drop(std::uint64_t number);
  void close_unused(const Archive& archive);
  [[nodiscard]] std::string stats_of(ArchiveCache& archive) const;
  [[nodiscard]] std::string listing();

  // For what may wait for a store: on a thread of its own.
  void leave_to_store(std::function<void()> chore);
  /// What closes descriptors of a store when it goes.
  template <typename Held>
  void let_go(Held held) {
    const auto last = std::make_shared<Held>(std::move(held));
    leave_to_store([last] { *last = {}; });
  }

  // The clerk's.
  void leave_to_clerk(std::function<void()> chore);
  void do_chores();
  void open_archive(Opening& opening, const ArchiveFacts& facts);
  void serve_block(Message type, const HotKey& key, std::uint32_t length, std::uint64_t number,
                   const Client& to);
  [[nodiscard]] BlockStore* blocks() const;
  [[nodiscard]] std::uint64_t clear(const ClearRequest& asked);
  [[nodiscard]] Result<Archive> make_archive(Opening& opening, const ArchiveFacts& facts);
  void answer_opened(const Opening& opening, const Archive& archive);

  // The fetchers'.
  void fetch();
  struct Job {
    Archive archive;
    Work work;
    std::chrono::milliseconds timeout{};  ///< for one fetch, retries included
  };
  [[nodiscard]] std::optional<Job> take_job(std::unique_lock<std::mutex>& lock);
  [[nodiscard]] bool may_read_small(ArchiveCache::Clock::time_point now);
  void run_job(const Job& job, std::span<std::byte> buffer);
  void fetch_unit(const Job& job, std::span<std::byte> buffer);
  void fetch_range(const Job& job, std::span<std::byte> buffer);
  [[nodiscard]] bool has_room_for_blocks();
  void prefetch(const Job& job, std::span<std::byte> buffer);
  void verify(const Job& job, std::span<std::byte> buffer);

  void find_mirrors();
  void make_room();
  [[nodiscard]] std::optional<std::uint64_t> drop_oldest();
  void start_blocks(std::uint64_t archive_bytes);
  [[nodiscard]] bool start_fetcher();
  void start_fetchers_for_all();
  void give_room_back();

  const CacheDirectory& directory_;
  const UniqueFd listening_;
  const std::function<bool()> still_ours_;
  Ledger ledger_;

  mutable std::mutex mutex_;
  std::condition_variable work_;  ///< there may be something to fetch
  Budget budget_;                 ///< guarded by mutex_, like all below
  std::map<std::uint64_t, Peer> peers_;
  std::map<ArchiveId, Archive> archives_;
  ArchiveId served_last_{};
  std::chrono::steady_clock::time_point accept_after_{};  ///< the poll thread's
  std::map<std::string, std::uint64_t> unopened_;         ///< mirrors that nobody has open: bytes
  Leases leases_;
  std::unique_ptr<BlockStore> blocks_;            ///< made by the first OPEN, then for good
  ArchiveCache::Clock::time_point settled_at_{};  ///< until then a pause may be about to end
  /// As many as fetchers; of the free ones, the one at the end is in the processor's cache.
  std::vector<PageBuffer> buffers_;
  double small_allowed_ = 1;  ///< token bucket of small requests
  ArchiveCache::Clock::time_point small_at_{};
  std::uint64_t next_client_ = 1;
  std::deque<std::function<void()>> chores_;
  bool making_room_ = false;
  ArchiveCache::Clock::time_point make_room_at_{};  ///< or later: there was nothing to drop
  std::atomic<unsigned> at_stores_{0};              ///< threads of leave_to_store()
  std::condition_variable store_let_go_;
  std::condition_variable chore_;  ///< there is something in chores_
  std::atomic<bool> stopping_{false};

  std::thread clerk_;
  std::vector<std::thread> fetchers_;  ///< the clerk's, once it has begun
};

}  // namespace shardfs
