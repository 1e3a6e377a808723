#include "cache/server/database.h"

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "cache/server/block_store.h"
#include "cache/server/ledger.h"

namespace shardfs {
namespace {

namespace files = std::filesystem;

class InDirectory : public testing::Test {
 protected:
  void SetUp() override { files::create_directory(root_); }
  void TearDown() override { files::remove_all(root_); }
  [[nodiscard]] std::string at(const char* name) const { return root_ / name; }

  const files::path root_ =
      files::temp_directory_path() / ("database-" + std::to_string(::getpid()));
};

using DatabaseTest = InDirectory;

Result<void> put(Database& database, std::string_view key, std::string_view value) {
  return database.write(
      [&](Database::Writer& writer) { return writer.put(as_bytes(key), as_bytes(value)); });
}

TEST_F(DatabaseTest, KeepsWhatWasWrittenAndMakesNoLockFile) {
  {
    auto database = Database::open(at("db"), 1 << 20);
    ASSERT_TRUE(database);
    ASSERT_TRUE(put(*database, "key", "value"));
  }
  auto again = Database::open(at("db"), 1 << 20);
  ASSERT_TRUE(again);
  EXPECT_EQ(as_text(*again->get(as_bytes("key"))), "value");
  EXPECT_EQ(again->get(as_bytes("other")).error().kind, ErrorKind::NotFound);
  EXPECT_FALSE(files::exists(root_ / "db/lock.mdb"));
}

TEST_F(DatabaseTest, ATransactionThatFailsLeavesNothing) {
  auto database = Database::open(at("db"), 1 << 20);
  ASSERT_TRUE(database);
  const auto done = database->write([&](Database::Writer& writer) -> Result<void> {
    SHARDFS_CHECK(writer.put(as_bytes("key"), as_bytes("value")));
    return fail(ErrorKind::Io, "no");
  });
  EXPECT_FALSE(done);
  EXPECT_FALSE(database->get(as_bytes("key")));
}

TEST_F(DatabaseTest, AFullMapIsNoSpaceAndLosesNothing) {
  auto database = Database::open(at("db"), 64 << 10);
  ASSERT_TRUE(database);
  ASSERT_TRUE(put(*database, "key", "value"));
  EXPECT_EQ(put(*database, "large", std::string(1 << 20, 'x')).error().kind, ErrorKind::NoSpace);
  EXPECT_TRUE(database->get(as_bytes("key")));
}

TEST_F(DatabaseTest, ScansWhatBeginsWithAPrefixInOrder) {
  auto database = Database::open(at("db"), 1 << 20);
  ASSERT_TRUE(database);
  for (const char* key : {"b2", "a1", "b1", "c1"}) ASSERT_TRUE(put(*database, key, key));
  std::vector<std::string> keys;
  ASSERT_TRUE(database->scan(as_bytes("b"), [&](ByteSpan key, ByteSpan) {
    keys.emplace_back(as_text(key));
    return true;
  }));
  EXPECT_THAT(keys, testing::ElementsAre("b1", "b2"));
}

TEST_F(DatabaseTest, WhatIsNoDatabaseIsAnError) {
  files::create_directory(root_ / "db");
  std::ofstream(root_ / "db/data.mdb") << std::string(8192, 'x');
  EXPECT_FALSE(Database::open(at("db"), 1 << 20));
}

// ---- the ledger ----

using LedgerTest = InDirectory;

ArchiveId id_of(int n) {
  ArchiveId id;
  id.bytes[0] = std::byte(n);
  return id;
}

UnitRecord unit(Unit number, std::uint64_t sum) {
  UnitRecord record{number};
  record.sums.back() = sum;
  return record;
}

std::vector<std::pair<Unit, std::uint64_t>> recorded(Ledger& ledger, int n) {
  std::vector<std::pair<Unit, std::uint64_t>> all;
  const auto loaded = ledger.load(id_of(n), [](const Ledger::Records&) {});
  for (const UnitRecord& record : loaded.value_or(Ledger::Records()))
    all.emplace_back(record.unit, record.sums.back());
  return all;
}

TEST_F(LedgerTest, TheNextOneKnowsWhatWasNoted) {
  {
    Ledger ledger(at("ledger"));
    ledger.note_present(id_of(1), unit(7, 77));
    ledger.note_present(id_of(1), unit(300, 3));
    ledger.note_present(id_of(2), unit(7, 5));
    ledger.note_present(id_of(1), unit(8, 88));
    ledger.note_dropped(id_of(1), 8);
    ledger.note_path(id_of(1), "/project/a.tar");
  }
  Ledger ledger(at("ledger"));
  EXPECT_THAT(recorded(ledger, 1),
              testing::ElementsAre(testing::Pair(7, 77), testing::Pair(300, 3)));
  EXPECT_THAT(recorded(ledger, 2), testing::ElementsAre(testing::Pair(7, 5)));
  EXPECT_EQ(ledger.path_of(id_of(1)), "/project/a.tar");
  EXPECT_EQ(ledger.path_of(id_of(2)), "");
}

TEST_F(LedgerTest, ForgetsOneArchiveWhole) {
  Ledger ledger(at("ledger"));
  ledger.note_present(id_of(1), unit(1, 1));
  ledger.note_present(id_of(2), unit(2, 2));
  ledger.forget(id_of(1));
  EXPECT_TRUE(recorded(ledger, 1).empty());
  EXPECT_EQ(recorded(ledger, 2).size(), 1U);
}

TEST_F(LedgerTest, ARecordUnderAnotherKeyIsNotBelieved) {
  {
    Ledger ledger(at("ledger"));
    ledger.note_present(id_of(1), unit(1, 11));
  }
  {
    auto database = Database::open(at("ledger"), 1 << 30);
    ASSERT_TRUE(database);
    Bytes stolen, key;
    ASSERT_TRUE(database->scan(id_of(1).bytes, [&](ByteSpan k, ByteSpan value) {
      key.assign(k.begin(), k.end());
      stolen.assign(value.begin(), value.end());
      return true;
    }));
    key.back() = std::byte(2);
    ASSERT_TRUE(database->write([&](Database::Writer& writer) { return writer.put(key, stolen); }));
  }
  Ledger ledger(at("ledger"));
  EXPECT_THAT(recorded(ledger, 1), testing::ElementsAre(testing::Pair(1, 11)));
}

TEST_F(LedgerTest, WithoutADatabaseNothingIsRemembered) {
  std::ofstream(root_ / "ledger") << "a file where the directory should be";
  Ledger ledger(at("ledger"));
  ledger.note_present(id_of(1), unit(1, 1));
  EXPECT_TRUE(recorded(ledger, 1).empty());
}

// ---- blocks ----

using BlockStoreTest = InDirectory;

HotKey key_of(std::uint64_t offset) { return {{}, offset, 100}; }

TEST_F(BlockStoreTest, GivesBackWhatWasPut) {
  BlockStore store(at("blocks"), 1 << 20, 1 << 20);
  const Bytes value(100, std::byte(7));
  EXPECT_FALSE(store.get(key_of(1)));
  store.put(key_of(1), value);
  EXPECT_EQ(store.get(key_of(1)), value);
  EXPECT_FALSE(store.get(key_of(2)));
}

TEST_F(BlockStoreTest, TheLeastLatelyUsedGoesWhereItIsFull) {
  BlockStore store(at("blocks"), 300, 1 << 20);
  const Bytes value(100, std::byte(7));
  for (const std::uint64_t n : {1, 2, 3}) store.put(key_of(n), value);
  ASSERT_TRUE(store.get(key_of(1)));
  store.put(key_of(4), value);
  EXPECT_TRUE(store.get(key_of(1)));
  EXPECT_FALSE(store.get(key_of(2)));
  EXPECT_TRUE(store.get(key_of(4)));
  EXPECT_EQ(store.bytes(), 300U);
}

TEST_F(BlockStoreTest, BeginsEmpty) {
  {
    BlockStore store(at("blocks"), 1 << 20, 1 << 20);
    store.put(key_of(1), Bytes(100));
  }
  BlockStore store(at("blocks"), 1 << 20, 1 << 20);
  EXPECT_FALSE(store.get(key_of(1)));
}

TEST_F(BlockStoreTest, WithoutRoomNothingIsKept) {
  BlockStore store(at("blocks"), 0, 1 << 20);
  store.put(key_of(1), Bytes(100));
  EXPECT_FALSE(store.get(key_of(1)));
  EXPECT_FALSE(files::exists(root_ / "blocks"));
}

}  // namespace
}  // namespace shardfs
