// LMDB, tamed: what of it the cache uses, with errors as values.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "fs/base/bytes.h"
#include "fs/base/result.h"

struct MDB_env;
struct MDB_txn;

namespace shardfs {

/// One LMDB environment with one table. One thread, and the only user of the directory: the caller
/// holds a lock of its own on it. So LMDB's lock file is not used, with which go its dead readers'
/// slots, its lost wake-ups after a kill, and its SIGBUS where it is cut or the disk is full.
/// Neither WRITEMAP (a full disk would be SIGBUS) nor syncing (a machine that crashed starts with
/// an empty cache anyway).
class Database {
 public:
  /// In `directory`, made where it is not there. `map_bytes`: most bytes it may ever hold.
  [[nodiscard]] static Result<Database> open(const std::string& directory, std::size_t map_bytes);
  Database(Database&&) noexcept;
  Database& operator=(Database&&) noexcept;
  ~Database();

  /// All of one transaction, or nothing. NoSpace: the disk or the map is full; what was there
  /// stays.
  class Writer {
   public:
    [[nodiscard]] Result<void> put(ByteSpan key, ByteSpan value);
    /// What is not there needs no erasing.
    [[nodiscard]] Result<void> erase(ByteSpan key);

   private:
    friend class Database;
    Writer(const Database& database, MDB_txn* txn) : database_(database), txn_(txn) {}
    const Database& database_;
    MDB_txn* txn_;
  };
  [[nodiscard]] Result<void> write(const std::function<Result<void>(Writer&)>& work);

  /// The value of `key`; NotFound.
  [[nodiscard]] Result<Bytes> get(ByteSpan key) const;

  /// Calls `each` with all records whose keys begin with `prefix`, in order of keys, until it
  /// returns false.
  [[nodiscard]] Result<void> scan(
      ByteSpan prefix, const std::function<bool(ByteSpan key, ByteSpan value)>& each) const;

 private:
  Database() = default;
  [[nodiscard]] std::unexpected<Error> failed(int code, const char* what) const;

  struct Close {
    void operator()(MDB_env* env) const;
  };
  std::unique_ptr<MDB_env, Close> env_;
  unsigned table_ = 0;
  std::string directory_;
};

}  // namespace shardfs
