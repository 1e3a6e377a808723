#include "fs/base/byte_source.h"

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/base/bytes.h"

namespace shardfs {
namespace {

using ::testing::HasSubstr;

class FileSourceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "shardfs-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string write(const std::string& name, std::string_view content) const {
    const std::string path = directory_ / name;
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }

  std::filesystem::path directory_;
};

Result<std::string> read(const ByteSource& source, std::uint64_t offset, std::size_t size) {
  std::string text(size, '?');
  if (auto done = source.read_at(offset, std::as_writable_bytes(std::span(text))); !done)
    return std::unexpected(done.error());
  return text;
}

TEST_F(FileSourceTest, ReadsAnyRangeAndCountsIt) {
  const auto source = FileSource::open(write("file", "0123456789")).value();
  EXPECT_EQ(source->size(), 10u);
  EXPECT_EQ(read(*source, 0, 10).value(), "0123456789");
  EXPECT_EQ(read(*source, 9, 1).value(), "9");
  EXPECT_EQ(read(*source, 10, 0).value(), "");
  EXPECT_EQ(source->counters().requests, 2u);
  EXPECT_EQ(source->counters().bytes, 11u);
  EXPECT_EQ(source->counters().errors, 0u);
  EXPECT_THAT(source->name(), HasSubstr("file"));
}

TEST_F(FileSourceTest, ARangeBehindTheEndIsCorrupt) {
  const auto source = FileSource::open(write("file", "0123456789")).value();
  const std::pair<std::uint64_t, std::size_t> ranges[] = {
      {0, 11}, {10, 1}, {11, 0}, {~std::uint64_t{0}, 2}, {~std::uint64_t{0}, 0}};
  for (const auto& [offset, size] : ranges) {
    const auto result = read(*source, offset, size);
    ASSERT_FALSE(result.has_value()) << offset;
    EXPECT_EQ(result.error().kind, ErrorKind::Corrupt);
    EXPECT_THAT(result.error().message, HasSubstr("cut short"));
    EXPECT_THAT(result.error().message, HasSubstr(source->name()));
  }
}

TEST_F(FileSourceTest, AFileCutInUseIsCorrupt) {
  const std::string path = write("file", std::string(100'000, 'x'));
  const auto source = FileSource::open(path).value();
  std::filesystem::resize_file(path, 50'000);
  EXPECT_EQ(read(*source, 0, 50'000).value(), std::string(50'000, 'x'));
  const auto result = read(*source, 40'000, 20'000);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, ErrorKind::Corrupt);
  EXPECT_THAT(result.error().message, HasSubstr("while in use: nothing at byte 50000"));
  EXPECT_EQ(source->counters().errors, 1u);
}

TEST_F(FileSourceTest, AFileGrownInUseKeepsItsSize) {
  const std::string path = write("file", "01234");
  const auto source = FileSource::open(path).value();
  std::ofstream(path, std::ios::app) << "56789";
  EXPECT_EQ(source->size(), 5u);
  EXPECT_EQ(read(*source, 0, 5).value(), "01234");
  EXPECT_EQ(read(*source, 0, 6).error().kind, ErrorKind::Corrupt);
}

TEST_F(FileSourceTest, AnUnlinkedFileIsStillRead) {
  const std::string path = write("file", "01234");
  const auto source = FileSource::open(path).value();
  std::filesystem::remove(path);
  EXPECT_EQ(read(*source, 1, 3).value(), "123");
}

TEST_F(FileSourceTest, AnEmptyFileHasNoBytes) {
  const auto source = FileSource::open(write("file", "")).value();
  EXPECT_EQ(source->size(), 0u);
  EXPECT_FALSE(read(*source, 0, 1).has_value());
}

TEST_F(FileSourceTest, OnlyRegularFilesAreOpened) {
  const std::string fifo = directory_ / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  // With nobody at the other end, an open() that waits would never come back.
  EXPECT_EQ(FileSource::open(fifo).error().kind, ErrorKind::Invalid);
  EXPECT_EQ(FileSource::open("/dev/null").error().kind, ErrorKind::Invalid);
  const auto result = FileSource::open(directory_);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, ErrorKind::Invalid);
  EXPECT_THAT(result.error().message, HasSubstr("try: mkshard"));
}

TEST_F(FileSourceTest, WhatIsNotThereIsNotFound) {
  const auto result = FileSource::open(directory_ / "none");
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, ErrorKind::NotFound);
  EXPECT_EQ(result.error().sys_errno, ENOENT);
  EXPECT_THAT(result.error().message, HasSubstr("none: cannot open: No such file"));
}

TEST_F(FileSourceTest, ALinkToAFileIsFollowed) {
  const std::string path = write("file", "01234");
  std::filesystem::create_symlink("file", directory_ / "link");
  EXPECT_EQ(FileSource::open(directory_ / "link").value()->size(), 5u);
}

TEST_F(FileSourceTest, ThreadsMayReadAtOnce) {
  std::string content(1 << 20, ' ');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 31 >> 8);
  const auto source = FileSource::open(write("file", content)).value();
  std::vector<std::jthread> threads;
  std::array<bool, 4> good{};
  for (std::size_t t = 0; t < good.size(); ++t) {
    threads.emplace_back([&, t] {
      good[t] = true;
      for (std::size_t at = t * 1000; at + 5000 < content.size(); at += 5000)
        good[t] = good[t] && read(*source, at, 5000).value() == content.substr(at, 5000);
    });
  }
  threads.clear();
  for (const bool is_good : good) EXPECT_TRUE(is_good);
}

TEST_F(FileSourceTest, TheDescriptorDoesNotLeakIntoChildren) {
  const auto source = FileSource::open(write("file", "01234")).value();
  EXPECT_NE(::fcntl(source->fd(), F_GETFD) & FD_CLOEXEC, 0);
}

}  // namespace
}  // namespace shardfs
