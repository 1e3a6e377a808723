// Images made by mksquashfs; what unsquashfs makes of them is the measure.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fs/archive/foreign/block_table.h"
#include "fs/archive/foreign/foreign_archive.h"
#include "fs/archive/foreign/layout.h"
#include "fs/archive/squashfs/scan.h"
#include "fs/base/byte_source.h"
#include "tests/foreign/files.h"
#include "tests/foreign/memory_source.h"

namespace shardfs {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::read_file;
using testing::write_file;

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = fs::temp_directory_path() / "squashfs-test-XXXXXX";
    path_ = mkdtemp(pattern.data());
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  ~TemporaryFolder() { fs::remove_all(path_); }
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

bool run(const std::string& command) {
  return std::system((command + " >/dev/null 2>&1").c_str()) == 0;
}

#define NEEDS(tool) \
  if (!run("command -v " tool)) GTEST_SKIP() << "there is no " tool " here"

bool make_image(const std::string& from, const std::string& image, const std::string& options) {
  return run("mksquashfs " + from + " " + image + " -noappend -no-progress " + options);
}

Bytes noise(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  Bytes bytes(size);
  for (std::byte& b : bytes) b = std::byte(random());
  return bytes;
}

Bytes prose(std::size_t size, unsigned seed) {
  Bytes bytes;
  for (unsigned i = seed; bytes.size() < size; ++i)
    append(bytes, fmt::format("line {} of seed {}\n", i * 7919, seed));
  bytes.resize(size);
  return bytes;
}

struct Scanned {
  ForeignFacts facts;
  std::unique_ptr<Archive> archive;
  std::unique_ptr<Index> index;  ///< another copy, for its blocks
  std::vector<std::string> left_out;
};

Result<Scanned> scan(std::shared_ptr<const ByteSource> source) {
  Scanned result;
  for (const bool for_archive : {true, false}) {
    LayoutBuilder layout;
    SHARDFS_TRY(result.facts, scan_squashfs(*source, layout));
    result.left_out = layout.left_out();
    SHARDFS_TRY(Index index, layout.finish(result.facts, {source->size(), {}, {}}));
    if (for_archive) {
      SHARDFS_TRY(result.archive, ForeignArchive::open(source, std::move(index), {}, 64 << 20));
    } else {
      result.index = std::make_unique<Index>(std::move(index));
    }
  }
  return result;
}

Result<Scanned> scan_file(const std::string& path) {
  SHARDFS_TRY(std::shared_ptr<const ByteSource> source, FileSource::open(path));
  return scan(std::move(source));
}

/// Only what the scan itself does; what it says of `bytes`.
Result<ForeignFacts> scan_bytes(Bytes bytes) {
  const testing::MemorySource source(std::move(bytes), "image");
  LayoutBuilder layout;
  auto facts = scan_squashfs(source, layout);
  if (facts) {
    // What it let pass must make an index; a member may be left out, no more.
    const auto index = layout.finish(*facts, {source.size(), {}, {}});
    EXPECT_TRUE(index) << index.error().message;
  }
  return facts;
}

void expect_error(const Result<ForeignFacts>& result, ErrorKind kind, const std::string& part) {
  ASSERT_FALSE(result) << "no error; wanted: " << part;
  EXPECT_EQ(result.error().kind, kind) << result.error().message;
  EXPECT_THAT(result.error().message, HasSubstr(part));
  EXPECT_THAT(result.error().message, HasSubstr("image: "));
}

// ---- Comparison with a tree on disk.

using Names = std::map<std::string, struct stat>;

void list(const std::string& root, const std::string& path, Names& names) {
  const std::string full = path.empty() ? root : root + "/" + path;
  struct stat status {};
  ASSERT_EQ(lstat(full.c_str(), &status), 0) << full;
  names[path] = status;
  if (!S_ISDIR(status.st_mode)) return;
  for (const auto& entry : fs::directory_iterator(full)) {
    const std::string name = entry.path().filename();
    list(root, path.empty() ? name : path + "/" + name, names);
  }
}

std::map<std::string, std::string> xattrs_of(const std::string& path) {
  std::map<std::string, std::string> all;
  std::array<char, 65536> names{};
  const ssize_t size = llistxattr(path.c_str(), names.data(), names.size());
  for (ssize_t at = 0; at < size;) {
    const std::string name = names.data() + at;
    at += static_cast<ssize_t>(name.size()) + 1;
    std::string value(65536, '\0');
    value.resize(static_cast<std::size_t>(
        std::max<ssize_t>(0, lgetxattr(path.c_str(), name.c_str(), value.data(), value.size()))));
    if (!name.starts_with("system.")) all[name] = value;
  }
  return all;
}

std::map<std::string, std::string> xattrs_of(const Tree& tree, Entry entry) {
  std::map<std::string, std::string> all;
  const auto list = tree.xattrs(entry);
  EXPECT_TRUE(list);
  if (list)
    for (const Xattr& x : *list) all[std::string(x.name)] = std::string(as_text(x.value));
  return all;
}

void expect_same_bytes(const Archive& archive, Entry inode, const std::string& path) {
  constexpr std::size_t kStep = 1024 * 1024;
  std::ifstream in(path, std::ios::binary);
  Bytes wanted(kStep), got(kStep);
  for (std::uint64_t at = 0;; at += kStep) {
    in.read(reinterpret_cast<char*>(wanted.data()), kStep);
    const auto size = static_cast<std::size_t>(in.gcount());
    const auto read = archive.read(inode, at, got, nullptr);
    ASSERT_TRUE(read) << read.error().message;
    ASSERT_EQ(*read, size) << path << " at " << at;
    ASSERT_EQ(std::memcmp(wanted.data(), got.data(), size), 0) << path << " at " << at;
    if (size < kStep) return;
  }
}

void expect_same_inode(const Archive& archive, Entry entry, const std::string& path,
                       const struct stat& status) {
  const Tree& tree = archive.tree();
  const auto a = tree.attributes(entry);
  ASSERT_TRUE(a) << a.error().message;
  EXPECT_EQ(a->mode, status.st_mode);
  EXPECT_EQ(a->uid, status.st_uid);
  EXPECT_EQ(a->gid, status.st_gid);
  EXPECT_EQ(a->mtime.seconds, status.st_mtim.tv_sec);
  EXPECT_EQ(xattrs_of(tree, entry), xattrs_of(path));
  if (S_ISREG(status.st_mode)) {
    EXPECT_EQ(a->size, static_cast<std::uint64_t>(status.st_size));
    EXPECT_EQ(a->links, status.st_nlink);
    expect_same_bytes(archive, a->inode, path);
  }
  if (S_ISLNK(status.st_mode)) {
    EXPECT_EQ(*tree.link(entry), fs::read_symlink(path).string());
  }
  if (S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode)) {
    EXPECT_EQ(a->device_major, major(status.st_rdev));
    EXPECT_EQ(a->device_minor, minor(status.st_rdev));
  }
}

/// Whether `archive` is the tree that lies at `root`, name by name.
void expect_same_tree(const Archive& archive, const std::string& root) {
  Names names;
  list(root, "", names);
  EXPECT_EQ(archive.tree().entries(), names.size());
  std::map<ino_t, Entry> inodes;
  for (const auto& [path, status] : names) {
    SCOPED_TRACE(path);
    const auto entry = archive.tree().find(path);
    ASSERT_TRUE(entry) << entry.error().message;
    expect_same_inode(archive, *entry, path.empty() ? root : root + "/" + path, status);
    const auto inode = archive.tree().inode(*entry);
    ASSERT_TRUE(inode);
    EXPECT_EQ(inodes.try_emplace(status.st_ino, *inode).first->second, *inode);
  }
  std::set<Entry> distinct;
  for (const auto& [number, inode] : inodes) distinct.insert(inode);
  EXPECT_EQ(distinct.size(), inodes.size()) << "files that are none of each other's links are one";
}

// ---- A tree with something of everything.

void make_sparse(const std::string& path, std::uint64_t size, std::uint64_t data_at) {
  { std::ofstream file(path); }
  fs::resize_file(path, size);
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(static_cast<std::streamoff>(data_at));
  file << "something";
}

void make_files(const std::string& root) {
  unsigned seed = 0;
  for (const std::size_t size : {0, 1, 4095, 4096, 4097, 8192, 131072, 131073, 1048576, 1048581}) {
    write_file(fmt::format("{}/prose-{}", root, size), prose(size, ++seed));
    write_file(fmt::format("{}/noise-{}", root, size), noise(size, ++seed));
  }
  write_file(root + "/twin-1", prose(300000, 5));
  write_file(root + "/twin-2", prose(300000, 5));
  fs::create_directory(root + "/many");
  for (unsigned i = 0; i < 700; ++i)
    write_file(fmt::format("{}/many/a-file-of-middling-name-{:05}", root, i), prose(i % 97, i));
  make_sparse(root + "/sparse", 3000000, 1500000);
  make_sparse(root + "/sparse-whole", 1048576, 400000);
  make_sparse(root + "/sparse-end", 300000, 290000);
}

void make_links(const std::string& root) {
  fs::create_directories(root + "/links/deeper");
  write_file(root + "/links/target", prose(200000, 77));
  fs::create_hard_link(root + "/links/target", root + "/links/another");
  fs::create_hard_link(root + "/links/target", root + "/links/deeper/third");
  fs::create_hard_link(root + "/links/target", root + "/a-first-name");
  fs::create_symlink("target", root + "/links/symlink");
  fs::create_symlink("nowhere/at/all", root + "/links/dangling");
  fs::create_symlink(std::string(4000, 'x'), root + "/links/long");
  ASSERT_EQ(linkat(AT_FDCWD, (root + "/links/symlink").c_str(), AT_FDCWD,
                   (root + "/links/symlink-again").c_str(), 0),
            0);
}

void make_odd_ones(const std::string& root) {
  fs::create_directories(root + "/odd/empty-directory");
  ASSERT_EQ(mkfifo((root + "/odd/fifo").c_str(), 0640), 0);
  ASSERT_EQ(mknod((root + "/odd/socket").c_str(), S_IFSOCK | 0755, 0), 0);
  if (geteuid() == 0) {
    ASSERT_EQ(mknod((root + "/odd/null").c_str(), S_IFCHR | 0666, makedev(1, 3)), 0);
    ASSERT_EQ(mknod((root + "/odd/block").c_str(), S_IFBLK | 0600, makedev(259, 70000)), 0);
    write_file(root + "/odd/owned", {});
    ASSERT_EQ(chown((root + "/odd/owned").c_str(), 1234, 70000), 0);
  }
  write_file(root + "/odd/set-user-id", prose(10, 1));
  ASSERT_EQ(chmod((root + "/odd/set-user-id").c_str(), 06755), 0);
  ASSERT_EQ(chmod((root + "/odd/empty-directory").c_str(), 01777), 0);
  write_file(root + "/odd/" + std::string(255, 'n'), prose(100, 2));
  write_file(root + "/odd/name with \n and \xff", prose(100, 3));
  std::string deep = root + "/deep";
  for (int i = 0; i < 60; ++i) deep += fmt::format("/level-{}", i);
  fs::create_directories(deep);
  write_file(deep + "/bottom", prose(100, 4));
  for (const std::int64_t seconds : {std::int64_t{0}, std::int64_t{4294967295}}) {
    const std::string path = fmt::format("{}/odd/time-{}", root, seconds);
    write_file(path, {});
    const std::array<timespec, 2> times{{{seconds, 0}, {seconds, 0}}};
    ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), times.data(), 0), 0);
  }
}

/// Whether the file system takes them.
bool make_xattrs(const std::string& root) {
  fs::create_directory(root + "/xattrs");
  const auto set = [](const std::string& path, const char* name, const std::string& value) {
    return lsetxattr(path.c_str(), name, value.data(), value.size(), 0) == 0;
  };
  bool done = set(root + "/xattrs", "user.of-directory", "yes");
  for (int i = 0; i < 3; ++i) {
    const std::string path = fmt::format("{}/xattrs/{}", root, i);
    write_file(path, prose(10, 9));
    done = set(path, "user.z", std::string(1000, 'z')) && done;  // the same: kept once
    done = set(path, "user.a", std::to_string(i)) && done;
    done = set(path, "user.empty", "") && done;
  }
  if (geteuid() != 0) return done;
  fs::create_symlink("0", root + "/xattrs/symlink");
  done = set(root + "/xattrs/symlink", "trusted.of-symlink", "t") && done;
  done = set(root + "/xattrs/1", "trusted.one", "1") && done;
  return set(root + "/xattrs/2", "security.two", "22") && done;
}

class SquashfsTest : public ::testing::TestWithParam<const char*> {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<TemporaryFolder>();
    tree_ = *folder_ / "tree";
    fs::create_directory(tree_);
    make_files(tree_);
    make_links(tree_);
    make_odd_ones(tree_);
    has_xattrs_ = make_xattrs(tree_);
  }
  static void TearDownTestSuite() { folder_.reset(); }

  static std::string image() { return *folder_ / "image"; }

  static void expect_as_unsquashed(Access access) {
    const std::string out = *folder_ / "out";
    ASSERT_TRUE(run("unsquashfs -no-progress -dest " + out + " " + image()));
    const auto scanned = scan_file(image());
    ASSERT_TRUE(scanned) << scanned.error().message;
    EXPECT_TRUE(scanned->left_out.empty()) << scanned->left_out.front();
    EXPECT_EQ(scanned->facts.format, "squashfs");
    EXPECT_EQ(scanned->facts.access, access);
    expect_same_tree(*scanned->archive, out);
    fs::remove_all(out);
  }

  static std::unique_ptr<TemporaryFolder> folder_;
  static std::string tree_;
  static bool has_xattrs_;
};
std::unique_ptr<TemporaryFolder> SquashfsTest::folder_;
std::string SquashfsTest::tree_;
bool SquashfsTest::has_xattrs_ = false;

TEST_P(SquashfsTest, IsWhatUnsquashfsMakesOfIt) {
  NEEDS("mksquashfs");
  NEEDS("unsquashfs");
  ASSERT_TRUE(make_image(tree_, image(), GetParam()));
  const bool stored = std::string_view(GetParam()).find("-noD -noF") != std::string::npos;
  expect_as_unsquashed(stored ? Access::Random : Access::Frame);
}

INSTANTIATE_TEST_SUITE_P(
    Options, SquashfsTest,
    ::testing::Values("-comp gzip", "-comp xz", "-comp xz -Xbcj x86", "-comp lzo", "-comp lz4",
                      "-comp lz4 -Xhc", "-comp zstd", "-comp gzip -b 4096", "-comp zstd -b 1M",
                      "-comp zstd -b 4096 -always-use-fragments", "-comp gzip -no-fragments",
                      "-comp gzip -always-use-fragments", "-noI -noD -noF -noX",
                      "-noD -noF -b 4096", "-noD -noF -no-fragments -b 1M",
                      "-comp zstd -noI -noX -no-duplicates -no-exports", "-noD -comp lzo -b 8192",
                      "-comp gzip -no-sparse -no-xattrs -noF"));

TEST_F(SquashfsTest, AnImageThatWasAppendedTo) {
  NEEDS("mksquashfs");
  NEEDS("unsquashfs");
  ASSERT_TRUE(make_image(tree_ + "/many", image(), "-comp zstd"));
  for (const std::string name : {"/links", "/odd", "/noise-131073"})
    ASSERT_TRUE(run("mksquashfs " + tree_ + name + " " + image() + " -no-progress -root-becomes " +
                    "old" + std::to_string(name.size())));
  expect_as_unsquashed(Access::Frame);
}

TEST_F(SquashfsTest, AnImageMadeOfATar) {
  NEEDS("sqfstar");
  NEEDS("tar");
  NEEDS("unsquashfs");
  fs::remove(image());
  ASSERT_TRUE(run("tar -C " + tree_ + " --exclude=socket -cf - . | sqfstar -comp gzip " + image()));
  expect_as_unsquashed(Access::Frame);
}

TEST_F(SquashfsTest, TheTreeTestedHasExtendedAttributes) {
  if (!has_xattrs_) GTEST_SKIP() << "no extended attributes in " << *folder_ / "";
  NEEDS("mksquashfs");
  ASSERT_TRUE(make_image(tree_, image(), ""));
  const auto scanned = scan_file(image());
  ASSERT_TRUE(scanned) << scanned.error().message;
  const Tree& tree = scanned->archive->tree();
  const auto two = xattrs_of(tree, *tree.find("xattrs/2"));
  EXPECT_EQ(two.at("user.a"), "2");
  EXPECT_EQ(two.at("user.z"), std::string(1000, 'z'));
  EXPECT_EQ(two.at("user.empty"), "");
  if (geteuid() == 0) {
    EXPECT_EQ(two.at("security.two"), "22");
    EXPECT_EQ(xattrs_of(tree, *tree.find("xattrs/1")).at("trusted.one"), "1");
  }
}

TEST_F(SquashfsTest, LzmaIsNotSupportedAndNamed) {
  NEEDS("mksquashfs");
  if (!run("mksquashfs -help 2>&1 | grep -qw lzma")) GTEST_SKIP() << "mksquashfs without lzma";
  ASSERT_TRUE(make_image(tree_, image(), "-comp lzma"));
  expect_error(scan_bytes(read_file(image())), ErrorKind::Unsupported, "compressed with lzma");
}

// ---- What a scan costs.

std::uint64_t number_at(const std::string& image, std::uint64_t offset) {
  std::ifstream in(image, std::ios::binary);
  in.seekg(static_cast<std::streamoff>(offset));
  std::array<std::byte, 8> bytes{};
  in.read(reinterpret_cast<char*>(bytes.data()), bytes.size());
  return load<std::uint64_t>(bytes.data());
}
constexpr std::uint64_t kBytesUsed = 40, kInodeTable = 64;  ///< in the superblock

void expect_few_requests(const std::string& image) {
  const auto source = FileSource::open(image);
  ASSERT_TRUE(source);
  LayoutBuilder layout;
  const auto begin = std::chrono::steady_clock::now();
  const auto facts = scan_squashfs(**source, layout);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  ASSERT_TRUE(facts) << facts.error().message;
  const std::uint64_t metadata = number_at(image, kBytesUsed) - number_at(image, kInodeTable);
  const SourceCounters counters = (*source)->counters();
  EXPECT_LE(counters.requests, 2 + metadata / (4 * 1024 * 1024));
  EXPECT_LE(counters.bytes, metadata + 4096);
  std::cout << fmt::format("image of {} bytes, {} of them metadata: {} requests, {:.3f} s\n",
                           (*source)->size(), metadata, counters.requests, took.count());
}

TEST(SquashfsScan, AsksForLittleAndFindsStoredFilesInOnePiece) {
  NEEDS("mksquashfs");
  const TemporaryFolder folder;
  fs::create_directories(folder / "tree/b/c");
  constexpr unsigned kFiles = 25;
  for (unsigned i = 0; i < kFiles; ++i)
    write_file(fmt::format("{}/{}f{:02}", folder / "tree", i % 2 == 0 ? "" : "b/c/", i),
               noise(2000000 + i, i));
  ASSERT_TRUE(make_image(folder / "tree", folder / "image", "-noD -no-fragments"));
  ASSERT_GT(fs::file_size(folder / "image"), 49000000U);
  expect_few_requests(folder / "image");
  const auto scanned = scan_file(folder / "image");
  ASSERT_TRUE(scanned) << scanned.error().message;
  const auto blocks = BlockTable::open(*scanned->index);
  ASSERT_TRUE(blocks);
  EXPECT_EQ(blocks->size(), kFiles);
  std::uint64_t end = 0;
  for (std::uint64_t b = 0; b < blocks->size(); ++b) {
    EXPECT_EQ(blocks->at(b)->coder.codec, Codec::Stored);
    EXPECT_GE(blocks->at(b)->offset, end) << "data do not ascend";
    end = blocks->at(b)->offset + blocks->at(b)->packed;
  }
}

TEST(SquashfsScan, ThirtyThousandSmallFiles) {
  NEEDS("mksquashfs");
  const TemporaryFolder folder;
  for (unsigned i = 0; i < 30000; ++i) {
    const std::string in = fmt::format("{}/{:03}", folder / "tree", i / 1000);
    if (i % 1000 == 0) fs::create_directories(in);
    write_file(fmt::format("{}/{:08}.txt", in, i), prose(i % 50 + 1, i));
  }
  ASSERT_TRUE(make_image(folder / "tree", folder / "image", "-comp zstd -Xcompression-level 1"));
  expect_few_requests(folder / "image");
  const auto scanned = scan_file(folder / "image");
  ASSERT_TRUE(scanned) << scanned.error().message;
  EXPECT_EQ(scanned->archive->tree().entries(), 30031U);
}

TEST(SquashfsScan, HolesOfALargeSparseFile) {
  NEEDS("mksquashfs");
  const TemporaryFolder folder;
  constexpr std::uint64_t kGiB = 1 << 30, kBlock = 131072;
  fs::create_directory(folder / "tree");
  make_sparse(folder / "tree/sparse", kGiB + 5, kGiB / 2 + kBlock);
  ASSERT_TRUE(make_image(folder / "tree", folder / "image", ""));
  const auto scanned = scan_file(folder / "image");
  ASSERT_TRUE(scanned) << scanned.error().message;
  const Tree& tree = scanned->archive->tree();
  const auto entry = tree.find("sparse");
  ASSERT_TRUE(entry);
  const auto holes = tree.holes(*entry);
  ASSERT_TRUE(holes);
  const std::vector<Hole> wanted = {{0, kGiB / 2 + kBlock},
                                    {kGiB / 2 + 2 * kBlock, kGiB / 2 - 2 * kBlock + 5}};
  EXPECT_EQ(*holes, wanted);
  EXPECT_EQ(tree.attributes(*entry)->size, kGiB + 5);
  EXPECT_LE(BlockTable::open(*scanned->index)->size(), 3U);
  Bytes read(20);
  ASSERT_TRUE(scanned->archive->read(*entry, kGiB / 2 + kBlock - 5, read, nullptr));
  EXPECT_EQ(as_text(read), std::string_view("\0\0\0\0\0something\0\0\0\0\0\0", 20));
}

// ---- Images that lie.

/// A small image with nothing compressed, so that its numbers can be found and changed.
class HostileTest : public ::testing::Test {
 protected:
  static constexpr std::uint32_t kFile = 0x51525354, kDirectory = 0x61626364, kLink = 0x71727374,
                                 kSmall = 0x41424344;

  void SetUp() override {
    NEEDS("mksquashfs");
    const std::string tree = folder_ / "tree";
    fs::create_directories(tree + "/dir/below");
    write_file(tree + "/dir/file", noise(10000, 1));
    write_file(tree + "/dir/small", noise(100, 4));
    write_file(tree + "/dir/other", prose(300000, 2));
    write_file(tree + "/zlast", prose(500, 3));
    make_sparse(tree + "/sparse", 300000, 290000);
    fs::create_hard_link(tree + "/zlast", tree + "/dir/link");
    fs::create_symlink("dir/file", tree + "/symlink");
    ASSERT_EQ(mkfifo((tree + "/fifo").c_str(), 0640), 0);
    make_xattrs(tree);
    set_time("/dir/file", kFile);
    set_time("/dir/small", kSmall);
    set_time("/dir/below", kDirectory);
    set_time("/symlink", kLink);
    ASSERT_TRUE(make_image(tree, folder_ / "plain", "-noI -noD -noF -noX -b 4096"));
    ASSERT_TRUE(make_image(tree, folder_ / "packed", "-comp gzip -b 4096"));
    plain_ = read_file(folder_ / "plain");
    packed_ = read_file(folder_ / "packed");
    for (const Bytes& image : {plain_, packed_}) ASSERT_TRUE(scan_bytes(image));
  }

  void set_time(const std::string& name, std::uint32_t seconds) {
    const std::array<timespec, 2> times{{{seconds, 0}, {seconds, 0}}};
    ASSERT_EQ(
        utimensat(AT_FDCWD, (folder_ / ("tree" + name)).c_str(), times.data(), AT_SYMLINK_NOFOLLOW),
        0);
  }

  /// Where the metadata hold `bytes`, the only time.
  [[nodiscard]] std::uint64_t find(ByteSpan bytes) const {
    const auto from = plain_.begin() + load<std::int64_t>(plain_.data() + kInodeTable);
    const auto found = std::search(from, plain_.end(), bytes.begin(), bytes.end());
    EXPECT_NE(found, plain_.end());
    EXPECT_EQ(std::search(found + 1, plain_.end(), bytes.begin(), bytes.end()), plain_.end());
    return static_cast<std::uint64_t>(found - plain_.begin());
  }
  /// Where the inode of time `seconds` begins.
  [[nodiscard]] std::uint64_t inode(std::uint32_t seconds) const {
    Bytes time;
    shardfs::append(time, seconds);
    return find(time) - 8;
  }

  template <typename T>
  [[nodiscard]] Bytes with(std::uint64_t offset, T value) const {
    Bytes image = plain_;
    store<T>(image.data() + offset, value);
    return image;
  }

  TemporaryFolder folder_;
  Bytes plain_, packed_;
};

TEST_F(HostileTest, OtherKindsAreNotSupported) {
  expect_error(scan_bytes(with<std::uint16_t>(28, 3)), ErrorKind::Unsupported, "squashfs 3.0");
  expect_error(scan_bytes(with<std::uint16_t>(30, 1)), ErrorKind::Unsupported, "squashfs 4.1");
  expect_error(scan_bytes(with<std::uint32_t>(0, 0x68737173)), ErrorKind::Unsupported,
               "big-endian");
  expect_error(scan_bytes(with<std::uint16_t>(20, 9)), ErrorKind::Unsupported, "compressor 9");
  expect_error(scan_bytes(with<std::uint16_t>(20, 0)), ErrorKind::Unsupported, "compressor 0");
  expect_error(scan_bytes(noise(5000, 1)), ErrorKind::Unsupported, "not a squashfs");
  expect_error(scan_bytes({}), ErrorKind::Unsupported, "not a squashfs");
  expect_error(scan_bytes(Bytes(plain_.begin(), plain_.begin() + 50)), ErrorKind::Corrupt,
               "cut short");
}

TEST_F(HostileTest, AFileThatLiesIsCorruptAndNamed) {
  const auto lie = [&](const char* path, std::uint64_t at, std::uint32_t value, const char* part) {
    SCOPED_TRACE(fmt::format("{} {}", part, value));
    const auto result = scan_bytes(with<std::uint32_t>(at, value));
    expect_error(result, ErrorKind::Corrupt, part);
    expect_error(result, ErrorKind::Corrupt, path);
  };
  const std::uint64_t file = inode(kFile), small = inode(kSmall);
  lie("dir/file: ", file + 16, 0xffffff00, "cannot be");                // place of the first block
  lie("dir/file: ", file + 28, 0xfffffff0, "a list of blocks beyond");  // size
  lie("dir/file: ", file + 28, 12289, "in place of");       // a block more: the last is not full
  lie("dir/file: ", file + 32, 0x01000010, "in place of");  // size of the first block
  lie("dir/file: ", file + 32, 0x00ffffff, "cannot be");
  lie("dir/file: ", file + 32, 0x01000000, "cannot be");
  lie("dir/small: ", small + 20, 7777, "a fragment that is not");  // its fragment block
  lie("dir/small: ", small + 24, 4000, "leaves its fragment");     // where in there
  lie("dir/small: ", small + 24, 0xffffffff, "leaves its fragment");
  EXPECT_FALSE(scan_bytes(with<std::uint16_t>(file + 4, 700)));  // owner
  EXPECT_FALSE(scan_bytes(with<std::uint16_t>(file, 15)));       // type
}

TEST_F(HostileTest, ADirectoryInItselfIsCorrupt) {
  // A name stands behind: place of the inode in its block (2), number (2), type (2), length (2).
  const std::uint64_t entry = find(as_bytes("below")) - 8;
  const auto root = load<std::uint16_t>(plain_.data() + 32);
  expect_error(scan_bytes(with<std::uint16_t>(entry, root)), ErrorKind::Corrupt,
               "dir/below: a directory that is in two places");
}

TEST_F(HostileTest, NamesThatCannotBeAreCorrupt) {
  const std::uint64_t name = find(as_bytes("below"));
  for (const char c : {'/', '\0'})
    expect_error(scan_bytes(with<char>(name + 1, c)), ErrorKind::Corrupt,
                 "dir: a name in it that cannot be");
  Bytes image = with<std::uint16_t>(name, 0x2e2e);  // ".."
  store<std::uint16_t>(image.data() + name - 2, 1);
  expect_error(scan_bytes(image), ErrorKind::Corrupt, "dir: ");
  expect_error(scan_bytes(with<std::uint16_t>(name - 2, 65535)), ErrorKind::Corrupt, "dir: ");
}

TEST_F(HostileTest, ReferencesOutOfTheMetadataAreCorrupt) {
  const std::uint64_t directory = inode(kDirectory), link = inode(kLink);
  store<std::uint16_t>(plain_.data() + directory + 24, 100);  // not empty
  expect_error(scan_bytes(with<std::uint16_t>(directory + 26, 0xffff)), ErrorKind::Corrupt,
               "dir/below: ");  // where in its block
  expect_error(scan_bytes(with<std::uint32_t>(directory + 16, 0x7fffffff)), ErrorKind::Corrupt,
               "dir/below: ");  // its block
  store<std::uint16_t>(plain_.data() + directory + 24, 3);
  expect_error(scan_bytes(with<std::uint32_t>(link + 20, 0xfffffff0)), ErrorKind::Corrupt,
               "symlink: ");  // length
  expect_error(scan_bytes(with<std::uint32_t>(link + 20, 65000)), ErrorKind::Corrupt, "symlink: ");
  for (const std::uint64_t root : {std::uint64_t{0xffff}, std::uint64_t{1} << 47, UINT64_MAX})
    EXPECT_FALSE(scan_bytes(with<std::uint64_t>(32, root)));
}

TEST_F(HostileTest, SuperblocksThatLie) {
  for (std::uint64_t at = 8; at < 96; ++at)
    for (const int value : {0x00, 0x01, 0x7f, 0x80, 0xff})
      (void)scan_bytes(with<char>(at, static_cast<char>(value)));
  for (const std::uint64_t start : {40, 48, 64, 72})
    for (const std::uint64_t value : {std::uint64_t{0}, std::uint64_t{96}, UINT64_MAX - 7})
      EXPECT_FALSE(scan_bytes(with(start, value))) << start << " " << value;
  expect_error(scan_bytes(with<std::uint64_t>(kBytesUsed, plain_.size() + 1)), ErrorKind::Corrupt,
               "cut short");
}

TEST_F(HostileTest, EveryTruncationIsCorrupt) {
  for (const Bytes& whole : {plain_, packed_}) {
    const auto used = load<std::uint64_t>(whole.data() + kBytesUsed);
    const auto metadata = load<std::uint64_t>(whole.data() + kInodeTable);
    const std::uint64_t step = std::max<std::uint64_t>(1, (used - metadata) / 100);
    for (std::uint64_t size = metadata - 3 * step; size < used; size += step) {
      Bytes image(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
      expect_error(scan_bytes(image), ErrorKind::Corrupt, "cut short");
      store<std::uint64_t>(image.data() + kBytesUsed, size);  // and says that it is whole
      const auto result = scan_bytes(image);
      if (size + 8 < used) {
        EXPECT_FALSE(result) << size << " of " << used;
      }
    }
  }
}

/// Any answer is right, as long as there is one.
TEST_F(HostileTest, RandomDamageIsAnError) {
  std::mt19937 random(12345);
  unsigned noticed = 0;
  constexpr unsigned kVariants = 600;
  for (unsigned i = 0; i < kVariants; ++i) {
    Bytes image = i % 3 == 0 ? packed_ : plain_;
    const auto used = load<std::uint64_t>(image.data() + kBytesUsed);
    const auto metadata = load<std::uint64_t>(image.data() + kInodeTable);
    for (unsigned changes = random() % 4 + 1; changes > 0; --changes) {
      const std::uint64_t at = metadata + random() % (used - metadata - 4);
      if (random() % 2 == 0)
        image[at] ^= std::byte(1U << random() % 8);
      else
        store<std::uint16_t>(image.data() + at, random() % 2 == 0 ? 0xffff : 0x7fff);
    }
    if (!scan_bytes(std::move(image))) ++noticed;
  }
  EXPECT_GT(noticed, kVariants / 3);
}

}  // namespace
}  // namespace shardfs
