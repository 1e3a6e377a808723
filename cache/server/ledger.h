// Which units of which archives are in the mirrors, kept so that the next server knows.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "cache/common/archive_id.h"
#include "cache/common/units.h"
#include "cache/server/database.h"
#include "cache/server/rarely.h"
#include "fs/base/result.h"

namespace shardfs {

/// A unit that is in the mirror, with the checksums of its bytes as they came from the store.
struct UnitRecord {
  Unit unit = 0;
  ChunkSums sums{};
};

/// The only user of LMDB's environments in a cache directory, on a thread of its own: readers of
/// the archive never wait for it, so that neither a slow disk nor a damaged database can hold them
/// up. Changes are written together, as many as have come in. Any thread.
class Ledger {
 public:
  /// `directory` of the environments. Where it cannot be opened, nothing is remembered.
  explicit Ledger(std::string directory);
  ~Ledger() { stop(); }
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  /// Writes what is waiting and closes the database. Nothing may be noted afterwards.
  void stop();

  using Records = std::vector<UnitRecord>;
  /// What is recorded of an archive. Each record holds its own key and a checksum: others are left
  /// out. Nothing where the database does not answer within kPatience: `late` is given them then,
  /// by the ledger's thread, if they come.
  [[nodiscard]] std::optional<Records> load(const ArchiveId& id, std::function<void(Records)> late);

  void note_present(const ArchiveId& id, const UnitRecord& record);
  void note_dropped(const ArchiveId& id, Unit unit);
  void forget(const ArchiveId& id);
  /// For people: where the archive was.
  void note_path(const ArchiveId& id, const std::string& path);
  [[nodiscard]] std::string path_of(const ArchiveId& id);

  /// Waits until all changes so far are written, or kPatience has passed.
  void flush();

  static constexpr std::chrono::milliseconds kPatience{2000};

 private:
  /// Something to be done on the thread; writes are put into one transaction.
  struct Task {
    std::function<Result<void>(Database::Writer&)> write;
    std::function<void(Database*)> read;  ///< with null where there is no database
  };

  void run();
  void open_database();
  void run_tasks(std::deque<Task> tasks);
  void post(Task task);
  void write_all(std::deque<Task>& tasks);
  void note_failure(const Error& error);
  void begin_anew_if_damaged();
  [[nodiscard]] bool wait_for(std::function<void(Database*)> read);

  const std::string directory_;
  std::optional<Database> database_;  ///< the thread's, like failures_
  Rarely failures_;
  bool is_damaged_ = false, was_begun_anew_ = false;  ///< the thread's
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> tasks_;  ///< guarded by mutex_, like all below
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace shardfs
