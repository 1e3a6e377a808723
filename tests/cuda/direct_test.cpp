// Direct reads that fail, files that may not be read directly, and batches that find no device.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "cuda/batches.h"
#include "cuda/buffer.h"
#include "tests/archive/packed.h"
#include "tests/cuda/checked_device.h"

namespace shardfs {
namespace {

using testing::CheckedCuFile;
using testing::CheckedDevice;

class DirectReads : public ::testing::Test {
 protected:
  DirectReads()
      : device_(std::make_shared<CheckedDevice>(1)),
        cufile_(std::make_shared<CheckedCuFile>(device_)),
        data_(testing::noise(700'000, 5)),
        archive_(testing::pack({testing::directory(""), testing::file("f", data_),
                                testing::file("small", testing::noise(500, 6))},
                               testing::options(Container::Tar))) {}

  void open(BatchOptions options, CacheSettings settings = in_place()) {
    if (options.readers == 0) options.readers = 2;
    auto opened = Batches::open(
        archive_.path(), settings, options,
        [this](int) -> Result<std::shared_ptr<Device>> { return device_; }, cufile_);
    ASSERT_TRUE(opened) << opened.error().message;
    batches_ = *std::move(opened);
  }

  static CacheSettings in_place() {
    CacheSettings settings;
    settings.tier = Tier::None;
    return settings;
  }
  static BatchOptions direct() {
    BatchOptions options;
    options.checked = false;
    options.asked = Route::GdsCompat;
    return options;
  }

  /// Reads "f" and compares; gives the route it took.
  Outcome read() {
    const auto reader = batches_->to(0);
    EXPECT_TRUE(reader) << reader.error().message;
    const auto buffer = Buffer::make(device_, data_.size());
    auto batch = (*reader)->submit({*batches_->item("f", 0, UINT64_MAX, (*buffer)->address())},
                                   true, std::nullopt);
    EXPECT_TRUE(batch) << batch.error().message;
    (*batch)->wait();
    Outcome outcome = (*batch)->outcomes()[0];
    if (!outcome.error) {
      const auto got = device_->read_back((*buffer)->address(), data_.size());
      EXPECT_TRUE(got) << got.error().message;
      EXPECT_TRUE(*got == data_);
    }
    batch->reset();
    (*buffer)->drop();
    return outcome;
  }

  void TearDown() override {
    batches_.reset();
    EXPECT_EQ(device_->violations(), std::vector<std::string>{});
    EXPECT_EQ(cufile_->violations(), std::vector<std::string>{});
    EXPECT_EQ(device_->left(), 0U);
    EXPECT_EQ(cufile_->left(), 0U);
  }

  std::shared_ptr<CheckedDevice> device_;
  std::shared_ptr<CheckedCuFile> cufile_;
  Bytes data_;
  testing::TemporaryFile archive_;
  std::unique_ptr<Batches> batches_;
};

TEST_F(DirectReads, AreTakenWhereNvidiaFsServes) {
  cufile_->be_served(true);
  BatchOptions options;
  options.checked = false;
  open(options);
  const Outcome outcome = read();
  EXPECT_EQ(outcome.route, Route::Gds);
  EXPECT_FALSE(outcome.verified);
}

TEST_F(DirectReads, AreNotTakenUnaskedWhereItDoesNot) {
  BatchOptions options;
  options.checked = false;
  open(options);
  EXPECT_EQ(read().route, Route::Pinned);
}

TEST_F(DirectReads, AreNotTakenForBytesThatAreChecked) {
  cufile_->be_served(true);
  open({});
  const Outcome outcome = read();
  EXPECT_EQ(outcome.route, Route::Pinned);
  EXPECT_TRUE(outcome.verified);
  EXPECT_EQ(cufile_->reads(), 0U);
}

TEST_F(DirectReads, AFileSystemThatIsNotSupported) {
  cufile_->fail_with(CheckedCuFile::Failure::FileRefused);
  open(direct());
  EXPECT_EQ(read().route, Route::Pinned);
  const auto choice = (*batches_->to(0))->route();
  ASSERT_TRUE(choice);
  EXPECT_NE(choice->reason.find("5008"), std::string::npos) << choice->reason;
}

TEST_F(DirectReads, RefusedRegistration) {
  cufile_->fail_with(CheckedCuFile::Failure::BufferRefused);
  open(direct());
  EXPECT_EQ(read().route, Route::Pinned);
}

TEST_F(DirectReads, ShortOnes) {
  cufile_->fail_with(CheckedCuFile::Failure::ShortReads);
  open(direct());
  EXPECT_EQ(read().route, Route::GdsCompat);
  EXPECT_GE(cufile_->reads(), data_.size() / kDirectAlignment);
}

TEST_F(DirectReads, InternalErrors) {
  cufile_->fail_with(CheckedCuFile::Failure::InternalErrors);
  open(direct());
  const Outcome outcome = read();
  EXPECT_EQ(outcome.route, Route::Pinned);
  EXPECT_TRUE(outcome.verified);
}

TEST_F(DirectReads, NothingComes) {
  cufile_->fail_with(CheckedCuFile::Failure::EndsEarly);
  open(direct());
  EXPECT_EQ(read().route, Route::Pinned);
}

// Nobody would notice wrong bytes: a file that has been written to is not believed.
TEST_F(DirectReads, AnArchiveThatHasChanged) {
  open(direct());
  EXPECT_EQ(read().route, Route::GdsCompat);
  const auto extents = batches_->dataset().archive().extents(*batches_->file("f"));
  archive_.write(extents->front().offset, as_bytes("changed"));
  const Outcome outcome = read();
  ASSERT_TRUE(outcome.error);
  EXPECT_EQ(outcome.error->kind, ErrorKind::Corrupt);
}

TEST_F(DirectReads, AnArchiveThatHadChangedBeforeTheFirstOfThem) {
  open(direct());
  const auto extents = batches_->dataset().archive().extents(*batches_->file("f"));
  archive_.write(extents->front().offset, ByteSpan(data_).first(100));
  EXPECT_EQ(read().route, Route::Pinned);
  const auto choice = (*batches_->to(0))->route();
  ASSERT_TRUE(choice);
  EXPECT_NE(choice->reason.find("was changed"), std::string::npos) << choice->reason;
}

TEST_F(DirectReads, AnArchiveThatIsCutWithinAPage) {
  open(direct());
  EXPECT_EQ(read().route, Route::GdsCompat);
  const auto extents = batches_->dataset().archive().extents(*batches_->file("f"));
  std::filesystem::resize_file(archive_.path(), extents->front().offset + 3 * 4096 + 100);
  const Outcome outcome = read();
  ASSERT_TRUE(outcome.error);
  EXPECT_EQ(outcome.error->kind, ErrorKind::Corrupt);
}

TEST_F(DirectReads, OutOfDeviceMemory) {
  open({});
  const auto reader = batches_->to(0);
  ASSERT_TRUE(reader);
  const auto memory = device_->allocate(4 * data_.size());
  ASSERT_TRUE(memory);
  // Two small runs need staging memory on the device.
  std::vector<Item> two{*batches_->item("small", 0, 500, memory->address),
                        *batches_->item("f", 0, 900, memory->address + 5000)};
  device_->fail_next(testing::CheckedDevice::Call::Allocate);
  auto batch = (*reader)->submit(two, false, std::nullopt);
  ASSERT_TRUE(batch);
  (*batch)->wait();
  ASSERT_TRUE((*batch)->outcomes()[0].error);
  EXPECT_EQ((*batch)->outcomes()[0].error->kind, ErrorKind::NoSpace);
  auto again = (*reader)->submit(two, false, std::nullopt);
  ASSERT_TRUE(again);
  (*again)->wait();
  EXPECT_FALSE((*again)->outcomes()[0].error);
  batch->reset();
  again->reset();
  device_->release(*memory);
}

// It has no kernels: every run of bytes is a copy of its own, and cuFile is not asked.
TEST_F(DirectReads, AnOldDevice) {
  device_->be_old();
  cufile_->be_served(true);
  open(direct());
  EXPECT_EQ(read().route, Route::Pinned);
  const auto memory = device_->allocate(100'000);
  ASSERT_TRUE(memory);
  std::vector<Item> items;
  for (std::uint64_t i = 0; i < 5; ++i)
    items.push_back(*batches_->item("f", 1000 * i, 500, memory->address + 700 * i + 1));
  const auto batch = (*batches_->to(0))->submit(items, false, std::nullopt);
  ASSERT_TRUE(batch);
  (*batch)->wait();
  for (std::uint64_t i = 0; i < 5; ++i) {
    const auto got = device_->read_back(items[i].to, 500);
    ASSERT_TRUE(got);
    EXPECT_TRUE(std::equal(got->begin(), got->end(), data_.begin() + static_cast<long>(1000 * i)));
  }
  EXPECT_EQ(device_->scatters(), 0U);
  EXPECT_EQ(cufile_->reads(), 0U);
  device_->release(*memory);
}

TEST_F(DirectReads, OffAndRequired) {
  BatchOptions options;
  options.mode = GpuMode::Off;
  open(options);
  EXPECT_FALSE(batches_->to(0));
  EXPECT_TRUE(batches_->to(Batches::kHost));
  options.mode = GpuMode::Require;
  open(options);
  const auto to_host = (*batches_->to(Batches::kHost))->route();
  ASSERT_TRUE(to_host) << to_host.error().message;
  EXPECT_EQ(to_host->route, Route::Host);
  const auto none = Batches::open(archive_.path(), in_place(), options,
                                  [](int) -> Result<std::shared_ptr<Device>> {
                                    return fail(ErrorKind::Unsupported, "no driver");
                                  });
  ASSERT_FALSE(none);
  EXPECT_NE(none.error().message.find("no driver"), std::string::npos);
}

/// A directory of its own for a cache.
class Mirrors : public DirectReads {
 protected:
  void SetUp() override {
    const char* dir = std::getenv("TMPDIR");
    parent_ = std::string(dir != nullptr ? dir : "/tmp") + "/shardfs-test-XXXXXX";
    ASSERT_NE(::mkdtemp(parent_.data()), nullptr);
  }
  void TearDown() override {
    DirectReads::TearDown();
    // The server, which has no client any more, may still be writing there.
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    std::error_code failed;
    do {
      std::filesystem::remove_all(parent_, failed);
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    } while (std::filesystem::exists(parent_) && std::chrono::steady_clock::now() < end);
    EXPECT_FALSE(std::filesystem::exists(parent_));
  }
  std::string parent_;
};

// It is read by the CPU until it is complete and verified; then it is its copy that is read.
TEST_F(Mirrors, AreReadDirectlyOnceTheyAreSealed) {
  CacheSettings settings;
  settings.tier = Tier::Disk;
  settings.directory = parent_;
  settings.server_command = SHARDFS_PROGRAM;
  open(direct(), settings);
  if (batches_->dataset().tier().tier != Tier::Disk)
    GTEST_SKIP() << batches_->dataset().tier().reason;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  Route route = Route::Pinned;
  do {
    const Outcome outcome = read();
    ASSERT_FALSE(outcome.error);
    route = outcome.route;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  } while (route == Route::Pinned && std::chrono::steady_clock::now() < end);
  EXPECT_EQ(route, Route::GdsCompat) << (*batches_->to(0))->route()->reason;
  const auto files = cufile_->files();
  ASSERT_FALSE(files.empty());
  for (const std::string& file : files) {
    EXPECT_NE(file.find("/mirror/"), std::string::npos) << file;
    EXPECT_FALSE(file.ends_with(".part")) << file;
  }
}

}  // namespace
}  // namespace shardfs
