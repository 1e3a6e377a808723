#include "cache/server/database.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include <fmt/format.h>
#include <lmdb.h>
#include <sys/stat.h>

namespace shardfs {

namespace {

MDB_val value_of(ByteSpan bytes) { return {bytes.size(), const_cast<std::byte*>(bytes.data())}; }

ByteSpan span_of(const MDB_val& value) {
  return {static_cast<const std::byte*>(value.mv_data), value.mv_size};
}

struct Abort {
  void operator()(MDB_txn* txn) const { mdb_txn_abort(txn); }
};
using Transaction = std::unique_ptr<MDB_txn, Abort>;

struct CloseCursor {
  void operator()(MDB_cursor* cursor) const { mdb_cursor_close(cursor); }
};

}  // namespace

void Database::Close::operator()(MDB_env* env) const { mdb_env_close(env); }
Database::Database(Database&&) noexcept = default;
Database& Database::operator=(Database&&) noexcept = default;
Database::~Database() = default;

std::unexpected<Error> Database::failed(int code, const char* what) const {
  const bool full = code == MDB_MAP_FULL || code == ENOSPC || code == EDQUOT;
  const bool missing = code == MDB_NOTFOUND;
  // Limits of a transaction, of readers or of keys are no damage.
  constexpr int kLimits[] = {MDB_TXN_FULL,    MDB_READERS_FULL, MDB_DBS_FULL,   MDB_TLS_FULL,
                             MDB_CURSOR_FULL, MDB_BAD_VALSIZE,  MDB_MAP_RESIZED};
  const bool system = code > 0 || std::ranges::count(kLimits, code) > 0;
  return std::unexpected(Error{full      ? ErrorKind::NoSpace
                               : missing ? ErrorKind::NotFound
                               : system  ? ErrorKind::Io
                                         : ErrorKind::Corrupt,
                               std::max(code, 0),
                               fmt::format("{}: {}: {}", directory_, what, mdb_strerror(code))});
}

Result<Database> Database::open(const std::string& directory, std::size_t map_bytes) {
  Database database;
  database.directory_ = directory;
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST)
    return fail_errno(errno, directory, "cannot be made");
  MDB_env* env = nullptr;
  if (const int code = mdb_env_create(&env); code != 0) return database.failed(code, "mdb_env");
  database.env_.reset(env);
  mdb_env_set_mapsize(env, map_bytes);
  if (const int code =
          mdb_env_open(env, directory.c_str(), MDB_NOSYNC | MDB_NOLOCK | MDB_NORDAHEAD, 0600);
      code != 0)
    return database.failed(code, "cannot open");
  MDB_txn* begun = nullptr;
  if (const int code = mdb_txn_begin(env, nullptr, 0, &begun); code != 0)
    return database.failed(code, "cannot begin");
  Transaction txn(begun);
  if (const int code = mdb_dbi_open(txn.get(), nullptr, 0, &database.table_); code != 0)
    return database.failed(code, "cannot open the table");
  if (const int code = mdb_txn_commit(txn.release()); code != 0)
    return database.failed(code, "cannot commit");
  return database;
}

Result<void> Database::Writer::put(ByteSpan key, ByteSpan value) {
  MDB_val k = value_of(key), v = value_of(value);
  if (const int code = mdb_put(txn_, database_.table_, &k, &v, 0); code != 0)
    return database_.failed(code, "cannot write");
  return {};
}

Result<void> Database::Writer::erase(ByteSpan key) {
  MDB_val k = value_of(key);
  const int code = mdb_del(txn_, database_.table_, &k, nullptr);
  if (code != 0 && code != MDB_NOTFOUND) return database_.failed(code, "cannot erase");
  return {};
}

Result<void> Database::write(const std::function<Result<void>(Writer&)>& work) {
  MDB_txn* begun = nullptr;
  if (const int code = mdb_txn_begin(env_.get(), nullptr, 0, &begun); code != 0)
    return failed(code, "cannot begin");
  Transaction txn(begun);
  Writer writer(*this, txn.get());
  SHARDFS_CHECK(work(writer));
  if (const int code = mdb_txn_commit(txn.release()); code != 0)
    return failed(code, "cannot commit");
  return {};
}

Result<Bytes> Database::get(ByteSpan key) const {
  MDB_txn* begun = nullptr;
  if (const int code = mdb_txn_begin(env_.get(), nullptr, MDB_RDONLY, &begun); code != 0)
    return failed(code, "cannot begin");
  const Transaction txn(begun);
  MDB_val k = value_of(key), v{};
  if (const int code = mdb_get(txn.get(), table_, &k, &v); code != 0)
    return failed(code, "cannot read");
  const ByteSpan found = span_of(v);
  return Bytes(found.begin(), found.end());
}

Result<void> Database::scan(ByteSpan prefix,
                            const std::function<bool(ByteSpan, ByteSpan)>& each) const {
  MDB_txn* begun = nullptr;
  if (const int code = mdb_txn_begin(env_.get(), nullptr, MDB_RDONLY, &begun); code != 0)
    return failed(code, "cannot begin");
  const Transaction txn(begun);
  MDB_cursor* opened = nullptr;
  if (const int code = mdb_cursor_open(txn.get(), table_, &opened); code != 0)
    return failed(code, "cannot read");
  const std::unique_ptr<MDB_cursor, CloseCursor> cursor(opened);
  MDB_val k = value_of(prefix), v{};
  int code = mdb_cursor_get(cursor.get(), &k, &v, prefix.empty() ? MDB_FIRST : MDB_SET_RANGE);
  while (code == 0) {
    const ByteSpan key = span_of(k);
    if (key.size() < prefix.size() || std::memcmp(key.data(), prefix.data(), prefix.size()) != 0)
      return {};
    if (!each(key, span_of(v))) return {};
    code = mdb_cursor_get(cursor.get(), &k, &v, MDB_NEXT);
  }
  if (code != MDB_NOTFOUND) return failed(code, "cannot read");
  return {};
}

}  // namespace shardfs
