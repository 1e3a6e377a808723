// Every route, bit for bit: on the stand-in everywhere, and on a GPU where there is one.
#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cuda/batches.h"
#include "cuda/buffer.h"
#include "tests/archive/packed.h"
#include "tests/cuda/rig.h"

namespace shardfs {
namespace {

using testing::File;

enum class Where : std::uint8_t { Checked, Cuda };
struct Case {
  Where where;
  Container container;
  std::optional<Route> asked;
};

std::string name_of(const ::testing::TestParamInfo<Case>& info) {
  std::string name = info.param.where == Where::Cuda ? "Cuda" : "Checked";
  name += info.param.container == Container::Tar ? "Tar" : "TarZst";
  if (info.param.asked == Route::GdsCompat) name += "Gds";
  return name;
}

/// Half of it compresses.
Bytes content(std::size_t size, unsigned seed) {
  Bytes bytes = testing::noise(size, seed);
  if (seed % 2 == 0) std::fill(bytes.begin(), bytes.begin() + size / 2, std::byte(seed));
  return bytes;
}

class Routes : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    rig_ = GetParam().where == Where::Cuda ? testing::cuda_rig() : testing::checked_rig(7);
    if (rig_ == nullptr) GTEST_SKIP() << "no GPU";
  }

  void pack(const std::vector<std::size_t>& sizes) {
    std::vector<File> files{testing::directory("")};
    unsigned seed = 1;
    for (const std::size_t size : sizes) {
      const std::string path = "f" + std::to_string(files.size());
      contents_[path] = content(size, seed++);
      files.push_back(testing::file(path, contents_[path]));
      paths_.push_back(path);
    }
    archive_ = std::make_unique<testing::TemporaryFile>(
        testing::pack(files, testing::options(GetParam().container)));
  }

  void open(BatchOptions options = {}) {
    if (options.readers == 0) options.readers = 3;
    options.asked = GetParam().asked;
    options.checked = !GetParam().asked.has_value();
    CacheSettings settings;
    settings.tier = Tier::None;
    auto opened = Batches::open(
        archive_->path(), settings, options,
        [this](int) -> Result<std::shared_ptr<Device>> { return rig_->device(); }, rig_->cufile());
    ASSERT_TRUE(opened) << opened.error().message;
    batches_ = *std::move(opened);
    auto reader = batches_->to(0);
    ASSERT_TRUE(reader) << reader.error().message;
    reader_ = *reader;
  }

  [[nodiscard]] Item item(const std::string& path, DeviceAddress to) {
    const auto found = batches_->item(path, 0, UINT64_MAX, to);
    EXPECT_TRUE(found) << found.error().message;
    return *found;
  }

  void expect(const std::string& path, DeviceAddress at) {
    const Bytes& wanted = contents_.at(path);
    const auto got = rig_->read_back(at, wanted.size());
    ASSERT_TRUE(got) << path << ": " << got.error().message;
    ASSERT_TRUE(*got == wanted) << path << " of " << wanted.size() << " bytes differs";
  }

  /// Reads all in one allocation and compares.
  void read_all() {
    std::vector<Item> items;
    for (const std::string& path : paths_) items.push_back(item(path, 0));
    const auto buffer = Buffer::make(rig_->device(), lay_out(items));
    ASSERT_TRUE(buffer) << buffer.error().message;
    for (Item& one : items) one.to += (*buffer)->address();
    auto batch = reader_->submit(items, true, std::nullopt);
    ASSERT_TRUE(batch) << batch.error().message;
    (*batch)->wait();
    for (std::size_t i = 0; i < items.size(); ++i) {
      const Outcome& outcome = (*batch)->outcomes()[i];
      ASSERT_FALSE(outcome.error) << paths_[i] << ": " << outcome.error->message;
      outcomes_[paths_[i]] = outcome;
      expect(paths_[i], items[i].to);
    }
    batch->reset();
    (*buffer)->drop();
  }

  void TearDown() override {
    batches_.reset();
    if (rig_ != nullptr) {
      EXPECT_EQ(rig_->complaints(), std::vector<std::string>{});
    }
  }

  std::unique_ptr<testing::Rig> rig_;
  std::map<std::string, Bytes> contents_;
  std::vector<std::string> paths_;
  std::map<std::string, Outcome> outcomes_;
  std::unique_ptr<testing::TemporaryFile> archive_;
  std::unique_ptr<Batches> batches_;
  BatchReader* reader_ = nullptr;
};

TEST_P(Routes, EverySize) {
  pack({0, 1, 4095, 4096, 4097, 20'000, 65'535, 65'536, 65'537, 1'000'000, 1'048'576,
        rig_->large()});
  open();
  read_all();
  const bool direct =
      GetParam().asked == Route::GdsCompat && GetParam().container == Container::Tar;
  if (rig_->cufile() != nullptr) {
    EXPECT_EQ(outcomes_["f10"].route, direct ? Route::GdsCompat : Route::Pinned);
  }
  EXPECT_EQ(outcomes_["f3"].route, Route::Pinned) << "too small for a request of its own";
  EXPECT_EQ(outcomes_["f10"].verified, outcomes_["f10"].route == Route::Pinned);
  EXPECT_TRUE(outcomes_["f3"].verified);
}

TEST_P(Routes, ManySmallFiles) {
  std::mt19937 random(3);
  std::vector<std::size_t> sizes(3000);
  for (std::size_t& size : sizes) size = random() % 9000;
  pack(sizes);
  open();
  read_all();
}

TEST_P(Routes, MixedBatchesInARow) {
  pack({20'000, 3'000'000, 17, 110'000, 64 * 1024, 0, 999'999, 20'001, 150'000});
  open();
  for (int i = 0; i < 5; ++i) {
    std::mt19937 random(static_cast<unsigned>(i));
    std::shuffle(paths_.begin(), paths_.end(), random);
    read_all();
  }
}

// Buffers of the caller's lie anywhere; what lies between them is not touched.
TEST_P(Routes, BuffersOfTheCallers) {
  pack({20'000, 1, 4096, 70'001, 33, 300'000, 16, 15, 0, 131'072, 5});
  open();
  constexpr std::uint64_t kRoom = 1'000'000;
  const auto memory = rig_->device()->allocate(kRoom);
  ASSERT_TRUE(memory);
  for (const std::uint64_t gap : {1, 3, 15, 16, 17, 255}) {
    std::vector<Item> items;
    const auto stream = rig_->device()->create_stream();
    ASSERT_TRUE(stream);
    rig_->fill_in(*stream, memory->address, std::byte{0xee}, kRoom);
    std::uint64_t at = gap;
    for (const std::string& path : paths_) {
      items.push_back(item(path, memory->address + at));
      at += contents_.at(path).size() + gap;
    }
    ASSERT_LT(at, kRoom);
    auto batch = reader_->submit(items, false, *stream);
    ASSERT_TRUE(batch) << batch.error().message;
    (*batch)->wait();
    for (std::size_t i = 0; i < items.size(); ++i) {
      ASSERT_FALSE((*batch)->outcomes()[i].error);
      expect(paths_[i], items[i].to);
      const DeviceAddress end = items[i].to + contents_.at(paths_[i]).size();
      const auto between = rig_->read_back(end, gap);
      ASSERT_TRUE(between);
      EXPECT_EQ(*between, Bytes(gap, std::byte{0xee})) << paths_[i] << " wrote behind its end";
    }
    rig_->device()->release(*stream);
  }
  rig_->device()->release(*memory);
}

// What a stream still has to do with a buffer comes first, and what it is asked for later comes
// after.
TEST_P(Routes, StreamsAreKeptInOrder) {
  pack({500'000, 20'000, 800});
  open();
  std::vector<Item> items;
  for (const std::string& path : paths_) items.push_back(item(path, 0));
  const std::uint64_t bytes = lay_out(items);
  const auto memory = rig_->device()->allocate(bytes);
  ASSERT_TRUE(memory);
  for (Item& one : items) one.to += memory->address;
  for (int i = 0; i < 10; ++i) {
    const auto stream = rig_->device()->create_stream();
    const auto event = rig_->device()->create_event();
    ASSERT_TRUE(stream && event);
    rig_->fill_in(*stream, memory->address, std::byte{0x11}, bytes);
    auto batch = reader_->submit(items, true, *stream);
    ASSERT_TRUE(batch) << batch.error().message;
    ASSERT_TRUE((*batch)->wait_in(*stream));
    ASSERT_TRUE(rig_->device()->record(*event, *stream));
    ASSERT_TRUE(rig_->device()->wait(*event));
    for (std::size_t k = 0; k < items.size(); ++k) expect(paths_[k], items[k].to);
    batch->reset();
    rig_->device()->release(*event);
    rig_->device()->release(*stream);
  }
  rig_->device()->release(*memory);
}

// One call of the device fails: the batch has an error, or does without it, and what was asked of
// the device before is over when it has been waited for. The next batch is as any other.
TEST_P(Routes, ADeviceThatFails) {
  if (GetParam().where == Where::Cuda) GTEST_SKIP() << "nothing fails there";
  using testing::CheckedDevice;
  pack({20'000, 70'001, 33, 300'000, 5});
  auto& device = static_cast<CheckedDevice&>(*rig_->device());
  unsigned failed = 0;
  for (unsigned call = 0; call < CheckedDevice::kCalls; ++call) {
    open();
    for (const bool in_stream : {false, true}) {
      std::vector<Item> items;
      for (const std::string& path : paths_) items.push_back(item(path, 0));
      const auto buffer = Buffer::make(rig_->device(), lay_out(items));
      ASSERT_TRUE(buffer);
      for (Item& one : items) one.to += (*buffer)->address();
      const auto stream = device.create_stream();
      device.fail_next(static_cast<CheckedDevice::Call>(call));
      const auto batch = reader_->submit(items, true, *stream);
      if (batch) {
        if (!in_stream) (*batch)->wait();
        const auto waits = in_stream ? (*batch)->wait_in(*stream) : Result<void>{};
        failed += waits ? 0 : 1;
        // What the stream was made to wait for is not in place yet.
        for (std::size_t i = 0; i < items.size() && (!in_stream || !waits); ++i) {
          failed += (*batch)->outcomes()[i].error ? 1 : 0;
          if (!(*batch)->outcomes()[i].error) expect(paths_[i], items[i].to);
        }
      } else {
        ++failed;
      }
      device.stop_failing();
      device.release(*stream);
      (*buffer)->drop();
      read_all();
    }
  }
  EXPECT_GE(failed, 8U);
}

TEST_P(Routes, MemoryThatIsMappedInPieces) {
  if (GetParam().where == Where::Cuda) GTEST_SKIP() << "of one piece there";
  pack({20'000, 300'000, 70'001});
  open();
  auto& device = static_cast<testing::CheckedDevice&>(*rig_->device());
  constexpr std::size_t kRoom = 400'000;
  const DeviceMemory memory = device.allocate_in_pieces(kRoom, 64 * 1024);
  std::vector<Item> items;
  for (const std::string& path : paths_) items.push_back(item(path, 0));
  ASSERT_LE(lay_out(items), kRoom);
  for (Item& one : items) one.to += memory.address;
  const auto batch = reader_->submit(items, false, std::nullopt);
  ASSERT_TRUE(batch) << batch.error().message;
  (*batch)->wait();
  for (std::size_t i = 0; i < items.size(); ++i) expect(paths_[i], items[i].to);
  items.resize(1);
  items[0].to = memory.address + kRoom - 100;
  EXPECT_FALSE(reader_->submit(items, false, std::nullopt)) << "there is no other piece behind";
  device.release(memory);
}

TEST_P(Routes, ManyThreads) {
  pack({20'000, 20'000, 110'000, 1'000'000, 0, 4097, 65'536, 250'000});
  open();
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&, seed] {
      std::mt19937 random(seed);
      for (int round = 0; round < 8; ++round) {
        // Two batches at a time.
        std::vector<std::pair<Buffer*, std::shared_ptr<Batch>>> two;
        std::vector<std::vector<Item>> itemses;
        for (int k = 0; k < 2; ++k) {
          std::vector<Item> items;
          for (int n = 0; n < 5; ++n) items.push_back(item(paths_[random() % paths_.size()], 0));
          const auto buffer = Buffer::make(rig_->device(), lay_out(items));
          ASSERT_TRUE(buffer);
          for (Item& one : items) one.to += (*buffer)->address();
          auto batch = reader_->submit(items, true, std::nullopt);
          ASSERT_TRUE(batch);
          two.emplace_back(*buffer, *batch);
          itemses.push_back(items);
        }
        for (int k = 0; k < 2; ++k) {
          two[k].second->wait();
          for (const Item& one : itemses[k]) {
            const auto& path = *std::ranges::find_if(paths_, [&](const std::string& candidate) {
              return batches_->file(candidate).value() == one.inode;
            });
            expect(path, one.to);
          }
          two[k].first->drop();
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_P(Routes, PartsOfFiles) {
  pack({1'000'000, 500});
  open();
  const auto memory = rig_->device()->allocate(300'000);
  ASSERT_TRUE(memory);
  for (const auto& [offset, length] : {std::pair<std::uint64_t, std::uint64_t>{0, 1},
                                       {65'535, 2},
                                       {700'001, 299'999},
                                       {4096, 4096},
                                       {123'456, 234'567}}) {
    const auto part = batches_->item("f1", offset, length, memory->address + 1);
    ASSERT_TRUE(part);
    auto batch = reader_->submit({*part}, false, std::nullopt);
    ASSERT_TRUE(batch);
    (*batch)->wait();
    const auto got = rig_->read_back(memory->address + 1, length);
    ASSERT_TRUE(got);
    const Bytes& whole = contents_.at("f1");
    EXPECT_TRUE(std::equal(got->begin(), got->end(), whole.begin() + static_cast<long>(offset)));
  }
  EXPECT_EQ(batches_->item("f2", 499, 100, 0)->length, 1U);
  EXPECT_EQ(batches_->item("f2", 501, 100, 0)->length, 0U);
  rig_->device()->release(*memory);
}

TEST_P(Routes, MemoryThatIsNotTheDevices) {
  pack({20'000});
  open();
  Bytes here(20'000);
  const auto batch =
      reader_->submit({item("f1", std::bit_cast<DeviceAddress>(here.data()))}, false, std::nullopt);
  ASSERT_FALSE(batch);
  EXPECT_EQ(batch.error().kind, ErrorKind::Invalid);
}

// One damaged file is its own error, and nobody else's.
TEST_P(Routes, Damage) {
  if (GetParam().asked || GetParam().container != Container::Tar) GTEST_SKIP();
  pack({20'000, 20'000, 300'000, 20'000});
  open();
  const auto extents = batches_->dataset().archive().extents(*batches_->file("f2"));
  ASSERT_TRUE(extents);
  archive_->write(extents->front().offset + 100, as_bytes("xyz"));
  std::vector<Item> items;
  for (const std::string& path : paths_) items.push_back(item(path, 0));
  const auto buffer = Buffer::make(rig_->device(), lay_out(items));
  ASSERT_TRUE(buffer);
  for (Item& one : items) one.to += (*buffer)->address();
  const auto batch = reader_->submit(items, true, std::nullopt);
  ASSERT_TRUE(batch);
  (*batch)->wait();
  ASSERT_TRUE((*batch)->outcomes()[1].error);
  EXPECT_EQ((*batch)->outcomes()[1].error->kind, ErrorKind::Corrupt);
  EXPECT_NE((*batch)->outcomes()[1].error->message.find("f2"), std::string::npos);
  for (const std::size_t i : {0, 2, 3}) {
    EXPECT_FALSE((*batch)->outcomes()[i].error);
    expect(paths_[i], items[i].to);
  }
  (*buffer)->drop();
}

TEST_P(Routes, TheSameBitsRunAfterRun) {
  pack({20'000, 1'000'000, 333, 65'536});
  std::vector<Bytes> runs;
  for (int run = 0; run < 4; ++run) {
    open();
    std::vector<Item> items;
    for (const std::string& path : paths_) items.push_back(item(path, 0));
    const std::uint64_t bytes = lay_out(items);
    const auto buffer = Buffer::make(rig_->device(), bytes);
    ASSERT_TRUE(buffer);
    const auto stream = rig_->device()->create_stream();
    ASSERT_TRUE(stream);
    rig_->fill_in(*stream, (*buffer)->address(), std::byte{0}, bytes);
    for (Item& one : items) one.to += (*buffer)->address();
    const auto batch = reader_->submit(items, true, *stream);
    ASSERT_TRUE(batch);
    (*batch)->wait();
    runs.push_back(*rig_->read_back((*buffer)->address(), bytes));
    (*buffer)->drop();
    rig_->device()->release(*stream);
  }
  for (const Bytes& run : runs) EXPECT_TRUE(run == runs.front());
}

// Threads of a parent are not a child's.
TEST_P(Routes, AfterFork) {
  if (GetParam().where == Where::Cuda) GTEST_SKIP() << "CUDA itself does not survive fork()";
  pack({20'000});
  open();
  read_all();
  const pid_t child = ::fork();
  if (child == 0) {
    const auto batch = reader_->submit({}, false, std::nullopt);
    ::_exit(!batch && batch.error().message.find("fork") != std::string::npos ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

INSTANTIATE_TEST_SUITE_P(All, Routes,
                         ::testing::Values(Case{Where::Checked, Container::Tar, {}},
                                           Case{Where::Checked, Container::TarZst, {}},
                                           Case{Where::Checked, Container::Tar, Route::GdsCompat},
                                           Case{Where::Checked, Container::TarZst,
                                                Route::GdsCompat},
                                           Case{Where::Cuda, Container::Tar, {}},
                                           Case{Where::Cuda, Container::TarZst, {}},
                                           Case{Where::Cuda, Container::Tar, Route::GdsCompat}),
                         name_of);

}  // namespace
}  // namespace shardfs
