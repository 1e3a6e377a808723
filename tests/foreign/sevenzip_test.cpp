// 7z archives that 7-Zip makes, by the places that their header tells; and damaged ones.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <stdexcept>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "fs/archive/foreign/block_table.h"
#include "fs/archive/open.h"
#include "fs/archive/sevenzip/header.h"
#include "fs/archive/sevenzip/places.h"
#include "tests/archive/packed.h"
#include "tests/foreign/files.h"
#include "tests/foreign/memory_source.h"

namespace shardfs::testing {
namespace {

std::string seven_zip() {
  for (const char* name : {"7zz", "7z"})
    if (std::system(fmt::format("command -v {} >/dev/null", name).c_str()) == 0) return name;
  return "";
}

/// The files are made once for a test, and packed as it says.
class SevenZip : public ::testing::Test {
 protected:
  void SetUp() override {
    if (seven_zip().empty()) GTEST_SKIP() << "7-Zip is not installed";
    std::mt19937 random(1);
    const auto noise = [&](std::size_t size) {
      std::string text(size, '\0');
      for (char& c : text) c = static_cast<char>(random());
      return text;
    };
    put("small", "hello\n");
    put("nothing", "");
    put("a/b/deep", "deep down");
    put("noise", noise(100'000));
    put("ä ö", "ß");
    std::string prose;
    for (int i = 0; i < 30'000; ++i) prose += fmt::format("line {}\n", i * 7919);
    put("prose", prose);
    for (int i = 0; i < 100; ++i)
      put(fmt::format("many/{:03}", i), noise(700) + prose.substr(0, 70 * i));
    std::filesystem::create_directories(root_ / "tree/empty");
    std::filesystem::create_symlink("a/b/deep", root_ / "tree/link");
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void put(const std::string& name, const std::string& contents) {
    const auto path = root_ / "tree" / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << contents;
    files_[name] = contents;
  }

  /// The archive that `7z a OPTIONS` makes of these files, or of all.
  Bytes pack(const std::string& options, const std::string& files = ".") const {
    std::filesystem::remove(root_ / "t.7z");
    const std::string command =
        fmt::format("cd '{}' && {} a -bd -snl {} ../t.7z {} >/dev/null 2>&1 </dev/null",
                    (root_ / "tree").string(), seven_zip(), options, files);
    if (std::system(command.c_str()) != 0) throw std::runtime_error(command);
    return read_file(root_ / "t.7z");
  }

  static std::unique_ptr<Archive> open(const std::shared_ptr<MemorySource>& source) {
    auto archive = open_archive(source, {});
    if (!archive) throw std::runtime_error(archive.error().message);
    return *std::move(archive);
  }

  void expect_files(const Archive& archive) const {
    for (const auto& [name, wanted] : files_) {
      const auto got = contents(archive, name);
      ASSERT_TRUE(got) << name << ": " << got.error().message;
      EXPECT_TRUE(as_text(*got) == wanted) << name;
    }
    EXPECT_EQ(*archive.tree().link(*archive.tree().find("link")), "a/b/deep");
    EXPECT_TRUE(archive.tree().find("empty"));
  }

  void expect_access(const std::string& options, const std::string& access) const {
    SCOPED_TRACE(options);
    const auto archive = open(std::make_shared<MemorySource>(pack(options)));
    EXPECT_EQ(archive->info().access, access);
    expect_files(*archive);
  }

  std::filesystem::path root_ = [] {
    const char* dir = std::getenv("TMPDIR");
    std::string path = std::string(dir != nullptr ? dir : "/tmp") + "/shardfs-7z-XXXXXX";
    if (::mkdtemp(path.data()) == nullptr) throw std::runtime_error(path);
    return std::filesystem::path(path);
  }();
  std::map<std::string, std::string> files_;
};

TEST_F(SevenZip, MembersAreReadByTheirPlaces) {
  expect_access("-mx0", "random");
  for (const char* method : {"LZMA", "LZMA2", "LZMA:lc2:lp1:pb1"})
    for (const char* solid : {"on", "off", "64k"})
      for (const char* header : {"on", "off"})
        expect_access(fmt::format("-m0={} -ms={} -mhc={}", method, solid, header), "frame");
}

TEST_F(SevenZip, SmallFilesOneByOneAreRandom) {
  const auto archive = open(std::make_shared<MemorySource>(pack("-ms=off", "small many a")));
  EXPECT_EQ(archive->info().access, "random");
}

TEST_F(SevenZip, WhatElseThereIsIsReadOneAfterTheOther) {
  for (const char* options :
       {"-m0=PPMd", "-m0=BZip2", "-m0=Deflate", "-m0=BCJ -m1=LZMA2", "-m0=Delta:4 -m1=LZMA"})
    expect_access(options, "sequential");
}

TEST_F(SevenZip, AMemberCostsItsOwnBytes) {
  auto source = std::make_shared<MemorySource>(pack("-ms=off"));
  const auto archive = open(source);
  for (const char* name : {"many/099", "noise", "many/001"}) {
    source->requests = source->asked = 0;
    ASSERT_TRUE(contents(*archive, name));
    EXPECT_EQ(source->requests, 1U) << name;
    EXPECT_LE(source->asked, files_.at(name).size() + 1000) << name;
  }
}

TEST_F(SevenZip, LargeMembersAreReadInSteps) {
  std::string large;
  for (int i = 0; large.size() < kMaxWhole + 1'000'000; ++i)
    large += fmt::format("line {}\n", i * 7919LL);
  put("large", large);
  const auto archive = open(std::make_shared<MemorySource>(pack("-ms=off -mx1", "large small")));
  for (const std::uint64_t at : {large.size() - 1000, std::uint64_t{0}, large.size() / 2}) {
    Bytes part(1000);
    const auto got = archive->read(*archive->tree().find("large"), at, part, nullptr);
    ASSERT_TRUE(got) << got.error().message;
    EXPECT_EQ(as_text(ByteSpan(part).first(*got)), large.substr(at, 1000));
  }
  // In a solid archive there is no way to it but through all the others.
  const auto solid = open(std::make_shared<MemorySource>(pack("-ms=1g -mx1", "large small")));
  EXPECT_FALSE(solid->tree().find("large"));
  EXPECT_EQ(as_text(*contents(*solid, "small")), "hello\n");
}

/// Whatever byte is another: an error, or what was packed.
TEST_F(SevenZip, DamageOfAnyByteIsNoticed) {
  for (const char* options : {"-ms=off", "-ms=on", "-ms=on -m0=LZMA", "-ms=off -mhc=off"}) {
    SCOPED_TRACE(options);
    const Bytes good = pack(options, "small nothing a 'ä ö' many/00[0-3]");
    ASSERT_TRUE(*find_sevenzip_places(MemorySource(good)));
    std::uint64_t refused = 0, unread = 0;
    for (std::size_t at = 0; at < good.size(); ++at) {
      Bytes bad = good;
      bad[at] ^= std::byte{0x24};
      const auto archive = open_archive(std::make_shared<MemorySource>(std::move(bad)), {});
      if (!archive) ++refused;
      if (!archive) continue;
      for (const auto& [name, wanted] : files_) {
        const auto entry = (*archive)->tree().find(name);
        if (!entry) continue;
        const auto got = contents(**archive, *entry);
        if (!got) ++unread;
        ASSERT_TRUE(!got || as_text(*got) == wanted) << name << ", byte " << at;
      }
    }
    EXPECT_GT(refused, 100U);
    EXPECT_GT(unread, 500U);
  }
}

TEST_F(SevenZip, NoHeaderLeadsTheParserAstray) {
  const Bytes archive = pack("-ms=64k -mhc=off");
  const auto offset = load<std::uint64_t>(&archive[12]), size = load<std::uint64_t>(&archive[20]);
  const ByteSpan header = ByteSpan(archive).subspan(kSevenZipStart + offset, size);
  ASSERT_TRUE(parse_sevenzip_header(header, archive.size()));
  for (std::size_t end = 0; end < header.size(); ++end)
    EXPECT_FALSE(parse_sevenzip_header(
        Bytes(header.begin(), header.begin() + static_cast<std::ptrdiff_t>(end)), archive.size()));
  std::minstd_rand random(1);
  std::uint64_t parsed_ones = 0;
  for (int i = 0; i < 20'000; ++i) {
    Bytes bad(header.begin(), header.end());
    // Mostly in front, where the numbers are.
    const std::size_t within = random() % 2 == 0 ? 100 : bad.size();
    for (auto changes = random() % 3; changes + 1 > 0 && changes < 3; --changes)
      bad[random() % within] = std::byte(random());
    const auto parsed = parse_sevenzip_header(bad, archive.size());
    if (!parsed) continue;
    ++parsed_ones;
    const SevenZipHeader& told = parsed->header;
    std::uint64_t decoded = 0, of_streams = 0, streams = 0;
    for (const SevenZipFolder& folder : told.data.folders) {
      decoded += folder.decoded;
      streams += folder.streams;
      EXPECT_LE(folder.offset + folder.packed, archive.size());
    }
    for (const SevenZipStream& stream : told.data.streams) of_streams += stream.size;
    EXPECT_EQ(streams, told.data.streams.size());
    EXPECT_TRUE(streams == 0 || decoded == of_streams);
  }
  EXPECT_GT(parsed_ones, 1000U);
}

}  // namespace
}  // namespace shardfs::testing
