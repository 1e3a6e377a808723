// Connections of one client to the cache server of its directory, which it starts if need be.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cache/common/protocol.h"
#include "cache/common/shared_arrays.h"
#include "cache/common/units.h"
#include "fs/base/result.h"
#include "fs/base/unique_fd.h"

namespace shardfs {

/// How an archive is cached, and by whom.
struct CacheOptions {
  std::string parent;  ///< where the cache directory is, or is to be
  Tier tier = Tier::Disk;
  CacheLimits limits;
  bool hints_follow = false;   ///< hint() is called right after the opening: staging waits for it
  std::string server_command;  ///< the shardfs program; "" for this process's own
};

/// What a server gave a client of an archive. Good for as long as it is held, whatever becomes of
/// the server.
struct Attached {
  UniqueFd mirror;
  UnitMap map;
  SumMap sums;
  mutable TouchMap touches;
};

/// One connection, used by one thread at a time: a request and its answer.
class Line {
 public:
  /// Introduces itself and opens the archive, which must have `units` units for the server too.
  [[nodiscard]] static Result<std::unique_ptr<Line>> open(UniqueFd socket,
                                                          const CacheOptions& options, int store,
                                                          const std::string& path, Unit units,
                                                          int cancel);

  /// Introduces itself only: for what concerns no archive.
  [[nodiscard]] static Result<std::unique_ptr<Line>> open_to_directory(UniqueFd socket, int cancel);

  /// Sends a request and waits for its answer. NotFound: the server has gone, or does not answer a
  /// PING for kDeadAfter (a store that hangs does not make it so). Interrupted: `cancel` became
  /// readable. Io with ETIMEDOUT after `timeout`, which is the archive's if it is not given; while
  /// others have their turn at the store, after as long in which it gave nothing to them. After an
  /// error it cannot be used.
  [[nodiscard]] Result<Packet> call(Message type, ByteSpan payload, std::span<const int> fds = {},
                                    std::optional<std::chrono::milliseconds> timeout = {});

  /// Bytes that a BUFFER answer spoke of.
  [[nodiscard]] Result<void> take_buffer(std::span<std::byte> out) const;
  /// Puts bytes where a PUT takes them from.
  [[nodiscard]] Result<void> fill_buffer(ByteSpan bytes) const;

  [[nodiscard]] const std::shared_ptr<const Attached>& attached() const { return attached_; }
  [[nodiscard]] std::uint32_t archive() const { return archive_; }

  static constexpr std::chrono::milliseconds kDeadAfter{2000};

 private:
  Line(UniqueFd socket, int cancel, std::chrono::milliseconds timeout)
      : socket_(std::move(socket)), cancel_(cancel), timeout_(timeout) {}
  [[nodiscard]] Result<void> greet();
  [[nodiscard]] Result<void> attach(const CacheOptions& options, int store, const std::string& path,
                                    Unit units);

  UniqueFd socket_;
  int cancel_;
  std::chrono::milliseconds timeout_;
  UniqueFd buffer_;
  std::uint32_t archive_ = 0;
  std::shared_ptr<const Attached> attached_;
};

/// A pool of lines. Any thread; also in a child after fork(), which gets lines of its own.
class ServerLink {
 public:
  /// `store`: the archive's descriptor, which must outlive the link. `units` of it, as its reader
  /// counts them.
  ServerLink(CacheOptions options, int store, std::string path, Unit units);

  /// Asks the server of the cache directory in `parent` (STAT or CLEAR), which is started if need
  /// be; gives its JSON.
  [[nodiscard]] static Result<std::string> ask_directory(const std::string& parent, Message request,
                                                         ByteSpan payload);

  /// A line that is free, or a new one. NotFound: there is no server, and none could be started
  /// within kPatience; the next second's calls fail at once.
  [[nodiscard]] Result<std::unique_ptr<Line>> take();
  void give_back(std::unique_ptr<Line> line);
  /// The server behind a line has gone: no line to it is kept.
  void forget_all();

  /// Makes all calls that wait, and all later ones, fail: Interrupted.
  void cancel();
  [[nodiscard]] bool is_cancelled() const { return cancelled_; }

  [[nodiscard]] const CacheOptions& options() const { return options_; }
  /// All zero where the archive could not be looked at.
  [[nodiscard]] ArchiveId archive() const { return facts_ ? facts_->id : ArchiveId{}; }

  static constexpr std::chrono::milliseconds kPatience{1000};

 private:
  using Clock = std::chrono::steady_clock;
  [[nodiscard]] Result<void> check_unchanged() const;
  [[nodiscard]] Result<UniqueFd> connect_once() const;
  /// Starts one from `start_at` on, which it then moves.
  [[nodiscard]] Result<UniqueFd> connect_or_start(Clock::time_point& start_at) const;
  /// What `open` makes of the socket of a server, which is started if need be; tried for kPatience.
  [[nodiscard]] Result<std::unique_ptr<Line>> find_server(
      const std::function<Result<std::unique_ptr<Line>>(UniqueFd)>& open) const;
  [[nodiscard]] Result<void> start_server() const;
  [[nodiscard]] Result<std::unique_ptr<Line>> connect();

  const CacheOptions options_;
  const int store_;
  const std::string path_;
  const Unit units_;
  const Result<ArchiveFacts> facts_;  ///< of the archive as it was opened
  UniqueFd cancel_;
  std::atomic<bool> cancelled_{false};

  std::mutex connecting_;            ///< one thread at a time looks for a server
  Clock::time_point not_before_;     ///< guarded by connecting_
  std::atomic<bool> absent_{false};  ///< the last one who looked found none
  std::mutex mutex_;
  std::vector<std::unique_ptr<Line>> free_;  ///< guarded by mutex_, like pid_
  int pid_;
};

}  // namespace shardfs
