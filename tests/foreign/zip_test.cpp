// Zip archives that other tools make, and odd and hostile ones, scanned and read.
#include <array>
#include <atomic>
#include <cctype>
#include <chrono>
#include <functional>
#include <map>
#include <stdexcept>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include "fs/archive/foreign/foreign_archive.h"
#include "fs/archive/zip/scan.h"
#include "fs/base/checksum.h"
#include "tests/archive/packed.h"
#include "tests/foreign/files.h"
#include "tests/foreign/memory_source.h"

namespace shardfs::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr std::uint64_t kMiB = 1024 * 1024;

/// A source that counts what it is asked for.
class CountingSource : public ByteSource {
 public:
  explicit CountingSource(std::unique_ptr<ByteSource> under) : under_(std::move(under)) {}
  Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    ++requests;
    bytes += out.size();
    return under_->read_at(offset, out);
  }
  std::uint64_t size() const override { return under_->size(); }
  const std::string& name() const override { return under_->name(); }

  mutable std::atomic<std::uint64_t> requests{0}, bytes{0};

 private:
  std::unique_ptr<ByteSource> under_;
};

struct Scanned {
  std::unique_ptr<Archive> archive;
  ForeignFacts facts;
  std::vector<std::string> left_out;
  std::uint64_t requests = 0, bytes = 0;
};

Result<Scanned> scan(std::unique_ptr<ByteSource> under) {
  auto source = std::make_shared<CountingSource>(std::move(under));
  LayoutBuilder layout;
  Scanned scanned;
  SHARDFS_TRY(scanned.facts, scan_zip(*source, layout));
  scanned.requests = source->requests;
  scanned.bytes = source->bytes;
  SHARDFS_TRY(Index index, layout.finish(scanned.facts, {source->size(), {}, {}}));
  scanned.left_out = layout.left_out();
  SHARDFS_TRY(scanned.archive, ForeignArchive::open(source, std::move(index), {}, 64 << 20));
  return scanned;
}

/// A line for what is at a path; of a symlink, neither permissions nor time are compared.
std::string line(std::uint32_t mode, std::int64_t seconds, const std::string& link,
                 ByteSpan contents) {
  if (S_ISLNK(mode)) return "-> " + link;
  const std::string data =
      S_ISREG(mode) ? fmt::format(" {} bytes {:016x}", contents.size(), checksum64(contents)) : "";
  return fmt::format("{:06o} at {}{}", mode, seconds, data);
}

using Listing = std::map<std::string, std::string>;

void list(const Archive& archive, Entry directory, Listing& listing) {
  const Tree& tree = archive.tree();
  const auto done = tree.children(directory, 0, [&](Entry entry, std::string_view) {
    const Attributes a = *tree.attributes(entry);
    const std::string link = S_ISLNK(a.mode) ? std::string(*tree.link(entry)) : "";
    const auto data = S_ISREG(a.mode) ? contents(archive, entry) : Bytes{};
    EXPECT_TRUE(data) << data.error().message;
    if (data) listing[*tree.path(entry)] = line(a.mode, a.mtime.seconds, link, *data);
    if (S_ISDIR(a.mode)) list(archive, entry, listing);
    return true;
  });
  EXPECT_TRUE(done);
}

Listing list(const Archive& archive) {
  Listing listing;
  list(archive, kRoot, listing);
  return listing;
}

/// The same of a directory.
Listing list(const std::filesystem::path& root) {
  Listing listing;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    struct stat s {};
    EXPECT_EQ(::lstat(entry.path().c_str(), &s), 0);
    const std::string link = S_ISLNK(s.st_mode) ? read_symlink(entry.path()).string() : "";
    const Bytes data = S_ISREG(s.st_mode) ? read_file(entry.path()) : Bytes{};
    listing[entry.path().lexically_relative(root).string()] =
        line(s.st_mode, s.st_mtime, link, data);
  }
  return listing;
}

bool is_installed(const std::string& tool) {
  return std::system(("command -v " + tool + " >/dev/null 2>&1").c_str()) == 0;
}

/// 7-Zip goes by either name.
std::string seven_zip() { return is_installed("7z") ? "7z" : is_installed("7zz") ? "7zz" : ""; }

#define NEED(tool) \
  if (!is_installed(tool)) GTEST_SKIP() << tool << " is not installed"
#define NEED_7Z() \
  if (seven_zip().empty()) GTEST_SKIP() << "7z is not installed"

/// Python functions that write a zip archive field by field.
constexpr std::string_view kPython = R"(
import io, os, random, stat, struct, sys, zipfile, zlib
def deflated(data):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()
class Raw:
    'Members one by one; every field can be said to be something else.'
    def __init__(self, prefix=b''):
        self.out, self.central, self.count = bytearray(prefix), bytearray(), 0
        self.prefix = len(prefix)
    def add(self, name, data=b'', method=0, flags=0, host=3, attributes=0o100644 << 16, extra=b'',
            local_extra=b'', local=True, dos=(0, 33), disk=0, **other):
        packed = other.get('raw', deflated(data) if method == 8 else data)
        crc = zlib.crc32(data)
        size, packed_size = other.get('size', len(data)), other.get('packed_size', len(packed))
        offset = other.get('offset', len(self.out) - self.prefix)
        if local:
            self.out += struct.pack('<IHHHHHIIIHH', 0x04034b50, 20, flags, method, *dos, crc,
                                    packed_size, size, len(name), len(local_extra))
            self.out += name + local_extra + packed
        self.central += struct.pack('<IBBHHHHHIIIHHHHHII', 0x02014b50, 20, host, 20, flags, method,
                                    *dos, crc, packed_size, size, len(name), len(extra), 0, disk, 0,
                                    attributes, offset) + name + extra
        self.count += 1
    def end(self, comment=b'', disk=0, count=None, gap=b'', **other):
        begin = len(self.out) - self.prefix
        count = self.count if count is None else count
        tail = struct.pack('<IHHHHIIH', 0x06054b50, disk, disk, count, count,
                           other.get('directory_size', len(self.central)),
                           other.get('directory_offset', begin), len(comment))
        return bytes(self.out + self.central + gap + tail + comment)
def write(name, data):
    with open(name, 'wb') as f: f.write(data)
)";

/// A directory for one test's files, in which commands run.
class Zip : public ::testing::Test {
 protected:
  Zip() {
    const char* dir = std::getenv("TMPDIR");
    std::string path = std::string(dir != nullptr ? dir : "/tmp") + "/shardfs-zip-XXXXXX";
    EXPECT_NE(::mkdtemp(path.data()), nullptr);
    root_ = path;
  }
  ~Zip() override { std::filesystem::remove_all(root_); }

  void run(const std::string& command) const {
    const std::string whole = fmt::format(
        "cd '{}' && export TZ=UTC LC_ALL=C.UTF-8 && umask 022 && ({}) >log 2>&1 </dev/null",
        root_.string(), command);
    ASSERT_EQ(std::system(whole.c_str()), 0) << command << "\n"
                                             << as_text(read_file(root_ / "log"));
  }

  void python(std::string_view script) const {
    std::ofstream(root_ / "script.py") << kPython << script;
    run("/usr/bin/python3 script.py");
  }

  [[nodiscard]] std::string path(const std::string& name) const { return root_ / name; }

  [[nodiscard]] Result<Scanned> scan_file(const std::string& name) const {
    SHARDFS_TRY(auto source, FileSource::open(path(name)));
    return scan(std::move(source));
  }

  /// Scans `name`, which must work.
  [[nodiscard]] Scanned open(const std::string& name) const {
    auto scanned = scan_file(name);
    if (!scanned) throw std::runtime_error(scanned.error().message);
    return *std::move(scanned);
  }

  /// The message with which scanning `name` fails, without the file's name.
  [[nodiscard]] std::string failure(const std::string& name, ErrorKind kind) const {
    const auto scanned = scan_file(name);
    if (scanned) return "no failure";
    EXPECT_EQ(scanned.error().kind, kind) << scanned.error().message;
    EXPECT_THAT(scanned.error().message, StartsWith(path(name) + ": "));
    return scanned.error().message.substr(
        std::min(scanned.error().message.size(), path(name).size() + 2));
  }

  /// A tree of files that a zip archive can hold, in `tree`.
  void make_tree() const {
    python(R"(
random.seed(1)
def put(name, data, mode, time):
    write('tree/' + name, data)
    os.chmod('tree/' + name, mode)
    os.utime('tree/' + name, ns=(0, time * 10**9 + 123456789))
for d in ('tree/a/b/c', 'tree/empty', 'tree/ä ö'): os.makedirs(d)
put('small', b'hello\n', 0o644, 1700000001)
put('nothing', b'', 0o600, 1500000000)
put('a/script', b'#!/bin/sh\n', 0o755, 1234567891)
put('a/b/c/deep', b'deep down', 0o444, 1000000001)
put('a/prose', b''.join(b'line %d\n' % (i * 7919) for i in range(60000)), 0o640, 1600000003)
put('a/noise', random.randbytes(300000), 0o644, 1600000005)
put('a/b/64k', random.randbytes(65536), 0o644, 1600000007)
put('a/b/64k-1', random.randbytes(65535), 0o644, 1600000009)
put('ä ö/ü', 'ß'.encode(), 0o644, 1600000011)
for i in range(200): put('a/b/%03d' % i, b'%d ' % i * i, 0o644, 1600000000 + i)
os.symlink('small', 'tree/link')
os.symlink('../../' + 'x' * 300, 'tree/a/b/long-link')
for d in ('tree/a/b/c', 'tree/a/b', 'tree/a', 'tree/empty', 'tree/ä ö'):
    os.utime(d, (0, 1400000001))
)");
  }

  /// Unpacks `name` with a command into a directory and compares it with what we find.
  void compare(const std::string& name, const std::string& unpack,
               const std::function<void(Scanned&)>& also = {}) const {
    run("mkdir out && cd out && " + unpack);
    auto scanned = scan_file(name);
    ASSERT_TRUE(scanned) << scanned.error().message;
    EXPECT_THAT(scanned->left_out, ElementsAre());
    const Listing expected = list(root_ / "out");
    EXPECT_GT(expected.size(), 0u);
    EXPECT_EQ(list(*scanned->archive), expected);
    if (also) also(*scanned);
    std::filesystem::remove_all(root_ / "out");
  }

  std::filesystem::path root_;
};

// ---- what other tools make ----

TEST_F(Zip, BsdtarDeflated) {
  NEED("bsdtar");
  make_tree();
  run("cd tree && bsdtar --format=zip -cf ../t.zip *");
  compare("t.zip", "bsdtar -xpf ../t.zip",
          [](Scanned& s) { EXPECT_EQ(s.facts.access, Access::Frame); });
}

TEST_F(Zip, BsdtarStored) {
  NEED("bsdtar");
  make_tree();
  run("cd tree && bsdtar --format=zip --options zip:compression=store -cf ../t.zip *");
  compare("t.zip", "bsdtar -xpf ../t.zip",
          [](Scanned& s) { EXPECT_EQ(s.facts.access, Access::Random); });
}

TEST_F(Zip, BsdtarIntoAPipe) {
  NEED("bsdtar");
  make_tree();
  run("cd tree && bsdtar --format=zip -cf - * | cat > ../t.zip");
  compare("t.zip", "bsdtar -xpf ../t.zip");
}

TEST_F(Zip, InfoZip) {
  NEED("zip");
  NEED("unzip");
  make_tree();
  if (::geteuid() == 0) run("chown 1234:4321 tree/small");
  run("cd tree && zip -qry ../t.zip . && zip -qry0 ../s.zip .");
  compare("t.zip", "unzip -qX ../t.zip", [this](Scanned& s) {
    EXPECT_EQ(s.facts.access, Access::Frame);
    struct stat small {};
    ASSERT_EQ(::stat(path("tree/small").c_str(), &small), 0);
    const Attributes a = *s.archive->tree().attributes(*s.archive->tree().find("small"));
    EXPECT_EQ(a.uid, small.st_uid);
    EXPECT_EQ(a.gid, small.st_gid);
  });
  compare("s.zip", "unzip -qX ../s.zip",
          [](Scanned& s) { EXPECT_EQ(s.facts.access, Access::Random); });
}

TEST_F(Zip, InfoZipIntoAPipe) {
  NEED("zip");
  NEED("unzip");
  make_tree();
  // Stored members, symlinks too, it refuses to write into one.
  run("cd tree && rm link a/b/long-link && zip -qr - . | cat > ../t.zip");
  compare("t.zip", "unzip -qX ../t.zip");
}

class SevenZip : public Zip, public ::testing::WithParamInterface<const char*> {};

TEST_P(SevenZip, Method) {
  NEED_7Z();
  make_tree();
  run(fmt::format("cd tree && {} a -tzip -snl -mm={} ../t.zip *", seven_zip(), GetParam()));
  compare("t.zip", seven_zip() + " x -snld ../t.zip", [&](Scanned& s) {
    // 7-Zip keeps steps of 100 ns.
    const Attributes a = *s.archive->tree().attributes(*s.archive->tree().find("a/prose"));
    EXPECT_EQ(a.mtime, (Time{1600000003, 123456700}));
  });
}

INSTANTIATE_TEST_SUITE_P(Methods, SevenZip,
                         ::testing::Values("Copy", "Deflate", "BZip2", "LZMA", "LZMA:eos=off",
                                           "XZ"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase_if(name, [](unsigned char c) { return !std::isalnum(c); });
                           return name;
                         });

TEST_F(Zip, Zstd) {
  NEED("zstd");
  NEED_7Z();
  run("seq 100000 > a && seq 7 > b && zstd -q a b");
  python(R"(
z = Raw()
for n in 'ab':
    z.add(n.encode(), open(n, 'rb').read(), 93, raw=open(n + '.zst', 'rb').read())
write('t.zip', z.end())
)");
  compare("t.zip", seven_zip() + " x ../t.zip");
}

TEST_F(Zip, SevenZipMethodsThatAreUnknownHere) {
  NEED_7Z();
  run("seq 20000 > numbers");
  const std::string add = seven_zip() + " a -tzip ";
  run(add + "-mm=Deflate64 a.zip numbers && " + add + "-mm=PPMd b.zip numbers");
  EXPECT_EQ(failure("a.zip", ErrorKind::Unsupported),
            "numbers: compression method 9 (deflate64); try: unpack it and mkshard the directory");
  EXPECT_EQ(failure("b.zip", ErrorKind::Unsupported),
            "numbers: compression method 98 (PPMd); try: unpack it and mkshard the directory");
}

TEST_F(Zip, EncryptedBySevenZip) {
  NEED_7Z();
  run("seq 20000 > numbers");
  const std::string add = seven_zip() + " a -tzip -psecret ";
  run(add + "-mem=ZipCrypto a.zip numbers && " + add + "-mem=AES256 b.zip numbers");
  for (const char* name : {"a.zip", "b.zip"})
    EXPECT_EQ(failure(name, ErrorKind::Unsupported),
              "numbers: encrypted; try: unpack it with its password and mkshard the directory");
}

TEST_F(Zip, SeveralVolumes) {
  NEED("zip");
  python("random.seed(2); write('noise', random.randbytes(200000))");
  run("zip -q -s 64k v.zip noise");
  EXPECT_THAT(failure("v.zip", ErrorKind::Unsupported),
              HasSubstr("one of a zip archive's several volumes; try: zip -s 0"));
  EXPECT_THAT(failure("v.z01", ErrorKind::Corrupt), HasSubstr("without its end"));
}

TEST_F(Zip, OneVolumeOfSeveralByItsNumbersAlone) {
  python(R"(
z = Raw(); z.add(b'a', b'A'); write('end.zip', z.end(disk=1))
z = Raw(); z.add(b'a', b'A', disk=3); write('member.zip', z.end())
)");
  EXPECT_THAT(failure("end.zip", ErrorKind::Unsupported), HasSubstr("several volumes"));
  EXPECT_EQ(failure("member.zip", ErrorKind::Unsupported), "a: in another volume");
}

TEST_F(Zip, Python) {
  make_tree();
  python(R"(
for name, method in (('stored', 0), ('deflated', 8), ('bzip2', 12), ('lzma', 14)):
    with zipfile.ZipFile(name + '.zip', 'w', method) as z:
        for directory, _, files in os.walk('tree'):
            z.write(directory, os.path.relpath(directory, 'tree'))
            for f in files:
                path = os.path.join(directory, f)
                if not os.path.islink(path): z.write(path, os.path.relpath(path, 'tree'))
)");
  for (const std::string name : {"stored", "deflated", "bzip2", "lzma"})
    compare(name + ".zip", "bsdtar -xpf ../" + name + ".zip");
}

// ---- where data lie ----

TEST_F(Zip, LargeStoredMembersLieWhereAnotherToolSaysTheyDo) {
  python(R"(
random.seed(3)
with zipfile.ZipFile('plain.zip', 'w') as z:
    for i in range(40): z.writestr('f%02d' % i, random.randbytes(65000 + 100 * i))
raw = Raw()
for i in range(40): raw.add(b'f%02d' % i, random.randbytes(65000 + 100 * i), local_extra=bytes(i))
write('extra.zip', raw.end())
for name in ('plain', 'extra'):
    with open(name + '.zip', 'rb') as f, zipfile.ZipFile(f) as z, open(name + '.txt', 'w') as out:
        for i in z.infolist():
            f.seek(i.header_offset + 26)
            at = i.header_offset + 30 + sum(struct.unpack('<HH', f.read(4)))
            print(i.filename, at, i.file_size, file=out)
)");
  for (const std::string name : {"plain", "extra"}) {
    const Scanned s = open(name + ".zip");
    EXPECT_EQ(s.facts.access, Access::Random);
    EXPECT_LE(s.requests, name == "plain" ? 2u : 3u);
    std::ifstream expected(path(name + ".txt"));
    std::string member;
    std::uint64_t offset = 0, size = 0;
    int compared = 0;
    while (expected >> member >> offset >> size) {
      const auto extents = s.archive->extents(*s.archive->tree().find(member));
      ASSERT_TRUE(extents && extents->size() == 1);
      EXPECT_EQ(extents->front().stored, size >= 65536);
      if (size < 65536) continue;
      EXPECT_EQ(extents->front().offset, offset) << member;
      EXPECT_EQ(extents->front().length, size) << member;
      ++compared;
    }
    EXPECT_EQ(compared, 34);
  }
}

TEST_F(Zip, WhatStandsBehindAMemberIsNotReadWithIt) {
  python(R"(
z = Raw(); z.add(b'a', b'A' * 1000, 8); z.out += bytes(8 << 20); z.add(b'b', b'B' * 1000, 8)
z.out += bytes(8 << 20); write('t.zip', z.end())
)");
  const Scanned s = open("t.zip");
  for (const char* name : {"a", "b"}) {
    const auto extents = s.archive->extents(*s.archive->tree().find(name));
    ASSERT_TRUE(extents && extents->size() == 1);
    EXPECT_LE(extents->front().length, 150000u);
    EXPECT_EQ(contents(*s.archive, name)->size(), 1000u);
  }
}

TEST_F(Zip, StoredMembersWithTheirSizesBehind) {
  python(R"(
class Pipe(io.RawIOBase):
    def __init__(self, f): self.f = f
    def writable(self): return True
    def write(self, data): return self.f.write(data)
random.seed(4)
with open('t.zip', 'wb') as f, zipfile.ZipFile(Pipe(f), 'w') as z:
    for i in range(50):
        z.writestr(zipfile.ZipInfo('f%02d' % i), random.randbytes(10 + i * 3000))
)");
  compare("t.zip",
          "/usr/bin/python3 -c \"import zipfile; zipfile.ZipFile('../t.zip').extractall()\" && "
          "chmod 600 * && touch -d @315532800 *",
          [](Scanned& s) { EXPECT_EQ(s.facts.access, Access::Random); });
}

// ---- many members, and large files ----

TEST_F(Zip, AHundredThousandMembersTakeFewRequests) {
  python(R"(
with zipfile.ZipFile('t.zip', 'w', 8) as z:
    for i in range(100000):
        z.writestr('class%03d/sample-%07d.txt' % (i // 100, i), b'%d' % i * 20)
)");
  const auto begin = std::chrono::steady_clock::now();
  const Scanned s = open("t.zip");
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  fmt::print("{} members: {:.2f} s, {} requests, {} bytes of {}\n", s.archive->tree().entries(),
             took.count(), s.requests, s.bytes, std::filesystem::file_size(path("t.zip")));
  EXPECT_EQ(s.archive->tree().entries(), 101001u);  // 1,000 directories and the root
  EXPECT_LE(s.requests, std::filesystem::file_size(path("t.zip")) / kMiB + 4);
  const auto data = contents(*s.archive, "class777/sample-0077777.txt");
  ASSERT_TRUE(data) << data.error().message;
  std::string expected;
  for (int i = 0; i < 20; ++i) expected += "77777";
  EXPECT_EQ(as_text(*data), expected);
}

TEST_F(Zip, ThousandsOfSymlinksTakeFewRequests) {
  python(R"(
random.seed(5)
with zipfile.ZipFile('t.zip', 'w') as z:
    for i in range(5000):
        link = zipfile.ZipInfo('links/%04d' % i)
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        z.writestr(link, '../files/%04d' % i, 8 if i % 2 else 0)
        z.writestr('files/%04d' % i, random.randbytes(2000))
)");
  const Scanned s = open("t.zip");
  EXPECT_LE(s.requests, std::filesystem::file_size(path("t.zip")) / kMiB + 4);
  for (int i = 0; i < 5000; i += 7) {
    const auto entry = s.archive->tree().find(fmt::format("links/{:04}", i));
    ASSERT_TRUE(entry);
    EXPECT_EQ(*s.archive->tree().link(*entry), fmt::format("../files/{:04}", i));
  }
}

TEST_F(Zip, Zip64) {
  python(R"(
with zipfile.ZipFile('t.zip', 'w', 8) as z:
    for i in range(70000): z.writestr('%05d' % i, b'%d' % i)
with zipfile.ZipFile('s.zip', 'w') as z:
    for i in range(3):
        with z.open('f%d' % i, 'w', force_zip64=True) as f: f.write(b'%d' % i * 100000)
# A hole of 5 GiB in front of the archive: all offsets need 64 bits.
with open('far.zip', 'wb') as f:
    f.seek(5 << 30)
    with zipfile.ZipFile(f, 'w') as z:
        z.writestr('small', b'hello')
        z.writestr('large', b'0123456789' * 10000)
for name in ('s.zip', 'far.zip'): assert zipfile.ZipFile(name).testzip() is None
)");
  const Scanned many = open("t.zip");
  EXPECT_EQ(many.archive->tree().entries(), 70001u);
  EXPECT_EQ(as_text(*contents(*many.archive, "69999")), "69999");
  const Scanned forced = open("s.zip");
  EXPECT_EQ(as_text(*contents(*forced.archive, "f2")), std::string(100000, '2'));
  const Scanned far = open("far.zip");
  EXPECT_EQ(as_text(*contents(*far.archive, "small")), "hello");
  const Bytes large = *contents(*far.archive, "large");
  EXPECT_EQ(large.size(), 100000u);
  EXPECT_EQ(as_text(ByteSpan(large).last(12)), "890123456789");
}

TEST_F(Zip, Zip64RecordWithMoreInItThanIsKnown) {
  python(R"(
z = Raw(); z.add(b'a', b'A')
begin, size = len(z.out), len(z.central)
record = struct.pack('<IQHHIIQQQQ', 0x06064b50, 44 + 10, 45, 45, 0, 0, 1, 1, size, begin) + b'extensible'
def locator(at): return struct.pack('<IIQI', 0x07064b50, 0, at, 1)
end = struct.pack('<IHHHHIIH', 0x06054b50, 0, 0, 0xffff, 0xffff, 0xffffffff, 0xffffffff, 0)
write('t.zip', z.out + z.central + record + locator(begin + size) + end)
write('lost.zip', z.out + z.central + record + locator(begin) + end)
)");
  EXPECT_EQ(as_text(*contents(*open("t.zip").archive, "a")), "A");
  EXPECT_THAT(failure("lost.zip", ErrorKind::Corrupt), HasSubstr("without the record of its end"));
}

TEST_F(Zip, MoreMembersThanTheEndCanTellWithoutZip64) {
  python(R"(
z = Raw()
for i in range(65540): z.add(b'%05d' % i)
write('t.zip', z.end(count=4))
)");
  EXPECT_EQ(open("t.zip").archive->tree().entries(), 65541u);
}

// ---- odd ones ----

TEST_F(Zip, SomethingInFront) {
  python(R"(
z = Raw(b'#!/bin/sh\n' * 1000); z.add(b'a', b'A' * 100000, local_extra=b'12345'); z.add(b'b', b'B' * 500, 8)
write('shifted.zip', z.end())
data = io.BytesIO(b'x' * 777); data.seek(777)
with zipfile.ZipFile(data, 'a') as z: z.writestr('a', b'A' * 100000); z.writestr('b', b'B' * 500)
write('told.zip', data.getvalue())
with zipfile.ZipFile('64.zip', 'w') as z:
    for i in range(66000): z.writestr('%05d' % i, b'' if i else b'first')
write('64.zip', b'y' * 12345 + open('64.zip', 'rb').read())
)");
  for (const char* name : {"shifted.zip", "told.zip"}) {
    const Scanned s = open(name);
    EXPECT_EQ(as_text(*contents(*s.archive, "a")), std::string(100000, 'A')) << name;
    EXPECT_EQ(as_text(*contents(*s.archive, "b")), std::string(500, 'B')) << name;
  }
  const Scanned s = open("64.zip");
  EXPECT_EQ(s.archive->tree().entries(), 66001u);
  EXPECT_EQ(as_text(*contents(*s.archive, "00000")), "first");
}

TEST_F(Zip, WhatMayStandAtTheEnd) {
  python(R"(
def one():
    z = Raw(); z.add(b'a', b'A'); return z
write('comment.zip', one().end(b'c' * 65535))
write('zeros.zip', one().end() + bytes(4096))
write('gap.zip', one().end(gap=b'unknown'))
write('signature.zip', one().end(gap=struct.pack('<IH', 0x05054b50, 3) + b'sig', directory_size=47 + 9))
inner = one().end(); z = Raw(); z.add(b'inner.zip', inner); z.add(b'b', b'B' * 1000)
write('nested.zip', z.end())
write('cut.zip', z.end()[:700])
write('garbage.zip', one().end() + b'garbage')
write('empty.zip', Raw().end())
)");
  for (const char* name : {"comment.zip", "zeros.zip", "gap.zip", "signature.zip"}) {
    const Scanned s = open(name);
    EXPECT_EQ(as_text(*contents(*s.archive, "a")), "A") << name;
  }
  EXPECT_EQ(open("empty.zip").archive->tree().entries(), 1u);
  EXPECT_THAT(list(*open("nested.zip").archive), ::testing::SizeIs(2));
  EXPECT_THAT(failure("cut.zip", ErrorKind::Corrupt), HasSubstr("cut short"));
  EXPECT_THAT(failure("garbage.zip", ErrorKind::Corrupt), HasSubstr("cut short"));
}

TEST_F(Zip, WhatIsNoZip) {
  python("write('a', b'hello'); write('b', b''); write('c', bytes(100000)); write('d', b'PK')");
  for (const char* name : {"a", "b", "c", "d"})
    EXPECT_EQ(failure(name, ErrorKind::Unsupported), "not a zip archive");
}

TEST_F(Zip, Names) {
  python(R"(
z = Raw()
def add(name, host=3): z.add(name, name, host=host)
add(b'/absolute'); add(b'./a//b/./c'); add(b'../up'); add(b'd/../e'); add(b'latin\xe4'); add(b'back\\slash')
add(b'dos\\file', 0); add(b'dos/o\\dd', 0); add(b'nul\0nul'); add(b'n' * 256); add(b'.'); add(b'')
z.add(b'./', attributes=0o40700 << 16)
z.add(b'made\\', host=0)
z.add(b'x/y/')
write('t.zip', z.end())
)");
  const Scanned s = open("t.zip");
  Listing names;
  for (const auto& [name, what] : list(*s.archive)) names[name] = what.substr(0, 6);
  const Listing expected{{"a", "040755"},        {"a/b", "040755"},         {"a/b/c", "100644"},
                         {"absolute", "100644"}, {"back\\slash", "100644"}, {"dos", "040755"},
                         {"dos/file", "100644"}, {"dos/o\\dd", "100644"},   {"latin\xe4", "100644"},
                         {"made", "040755"},     {"x", "040755"},           {"x/y", "040755"}};
  EXPECT_EQ(names, expected);
  EXPECT_EQ(s.left_out.size(), 6u) << ::testing::PrintToString(s.left_out);
  EXPECT_THAT(s.left_out[0], StartsWith("../up: "));
  EXPECT_EQ(s.archive->tree().attributes(kRoot)->mode, 040700u);
  EXPECT_EQ(as_text(*contents(*s.archive, "a/b/c")), "./a//b/./c");
}

TEST_F(Zip, OfTwoMembersWithOneNameTheLastOneCounts) {
  python(R"(
z = Raw(); z.add(b'a', b'first' * 20000, 8); z.add(b'b', b'between'); z.add(b'./a', b'second', 8)
write('t.zip', z.end())
)");
  const Scanned s = open("t.zip");
  EXPECT_EQ(s.archive->tree().entries(), 3u);
  EXPECT_EQ(as_text(*contents(*s.archive, "a")), "second");
}

TEST_F(Zip, Modes) {
  python(R"(
z = Raw()
def add(name, attributes, host): z.add(name, host=host, attributes=attributes)
add(b'dos', 0x20, 0); add(b'dos-read-only', 0x21, 0); add(b'dos-directory', 0x10, 0)
add(b'none', 0, 3); add(b'bits-only', 0o640 << 16, 3); add(b'setuid', 0o104755 << 16, 3)
add(b'darwin', 0o100700 << 16, 19); add(b'ntfs', 0o100700 << 16, 10)
add(b'directory', 0o40711 << 16, 3); add(b'slash/', 0o100711 << 16, 3); add(b'dos-slash/', 0, 0)
add(b'fifo', 0o10600 << 16, 3); add(b'socket', 0o140600 << 16, 3)
add(b'character', 0o20600 << 16, 3); add(b'block', 0o60600 << 16, 3); add(b'odd', 0o150600 << 16, 3)
write('t.zip', z.end())
)");
  const Scanned s = open("t.zip");
  Listing modes;
  for (const auto& [name, what] : list(*s.archive)) modes[name] = what.substr(0, 6);
  const Listing expected{
      {"dos", "100644"},    {"dos-read-only", "100444"}, {"dos-directory", "040755"},
      {"none", "100644"},   {"bits-only", "100640"},     {"setuid", "104755"},
      {"darwin", "100700"}, {"ntfs", "100644"},          {"directory", "040711"},
      {"slash", "040711"},  {"dos-slash", "040755"},     {"fifo", "010600"},
      {"socket", "140600"}, {"character", "020600"},     {"block", "060600"}};
  EXPECT_EQ(modes, expected);
  EXPECT_THAT(s.left_out, ElementsAre(StartsWith("odd: ")));
}

TEST_F(Zip, TimesAndOwners) {
  python(R"(
z = Raw()
ut = struct.pack('<HHBi', 0x5455, 5, 1, -5)
nt = struct.pack('<HHIHHQQQ', 0xa, 32, 0, 1, 24, (11644473600 + 1234) * 10**7 + 7654321, 0, 0)
ux = struct.pack('<HHBBIBH', 0x7875, 9, 1, 4, 100000, 2, 50)
dos = (12 << 11 | 34 << 5 | 28, 44 << 9 | 2 << 5 | 29)
z.add(b'dos', dos=dos)
z.add(b'dos-nothing', dos=(0, 0))
z.add(b'unix', dos=dos, extra=nt + ut)
z.add(b'windows', dos=dos, extra=nt)
z.add(b'owned', dos=dos, extra=ux)
z.add(b'access-only', dos=dos, extra=struct.pack('<HHBi', 0x5455, 5, 2, 99))
z.add(b'padding', dos=dos, extra=ut + b'\0\0\0')
z.add(b'damaged', dos=dos, extra=struct.pack('<HH', 0x5455, 500) + ut)
write('t.zip', z.end())
)");
  const Scanned s = open("t.zip");
  const auto of = [&](const char* name) {
    return *s.archive->tree().attributes(*s.archive->tree().find(name));
  };
  const Time dos{1709210096, 0};  // 2024-02-29 12:34:56
  EXPECT_EQ(of("dos").mtime, dos);
  EXPECT_EQ(of("dos-nothing").mtime, (Time{315532800, 0}));
  EXPECT_EQ(of("unix").mtime, (Time{-5, 0}));
  EXPECT_EQ(of("windows").mtime, (Time{1234, 765432100}));
  EXPECT_EQ(of("owned").uid, 100000u);
  EXPECT_EQ(of("owned").gid, 50u);
  EXPECT_EQ(of("dos").uid, 0u);
  EXPECT_EQ(of("access-only").mtime, dos);
  EXPECT_EQ(of("padding").mtime, (Time{-5, 0}));
  EXPECT_EQ(of("damaged").mtime, dos);
}

TEST_F(Zip, SymlinksThatCannotBeAreLeftOut) {
  python(R"(
z = Raw()
link = (stat.S_IFLNK | 0o777) << 16
z.add(b'longest', b'x' * 4095, 8, attributes=link)
z.add(b'long', b'y' * 4096, 8, attributes=link)
z.add(b'bomb', b'z' * 50000000, 8, attributes=link)
z.add(b'nul', b'a\0b', attributes=link)
z.add(b'behind', b'target', flags=8, attributes=link, local_extra=b'1234')
write('t.zip', z.end())
)");
  const Scanned s = open("t.zip");
  EXPECT_THAT(s.left_out,
              ElementsAre(StartsWith("long: "), StartsWith("bomb: "), StartsWith("nul: ")));
  EXPECT_EQ(list(*s.archive),
            (Listing{{"longest", "-> " + std::string(4095, 'x')}, {"behind", "-> target"}}));
}

// ---- damaged and hostile ones ----

TEST_F(Zip, SizesThatCannotBe) {
  python(R"(
z = Raw(); z.add(b'm', b'A' * 100, size=99); write('stored.zip', z.end())
z = Raw(); z.add(b'm', b'A' * 100, 8, size=2000000); write('bomb.zip', z.end())
z = Raw(); z.add(b'm', bytes(50000000), 8); write('best.zip', z.end())
z = Raw(); z.add(b'm', b'A', 8, packed_size=2000); z.add(b'n', b'B'); write('over.zip', z.end())
z = Raw(); z.add(b'm', b'A', 8, packed_size=2000); write('last.zip', z.end())
z = Raw(); z.add(b'm', b'A'); z.add(b'n', b'B', local=False, offset=0); write('same.zip', z.end())
z = Raw(); z.add(b'm', b'A', offset=10000); write('away.zip', z.end())
z = Raw(); z.add(b'm', b'A', size=0xffffffff, packed_size=0xffffffff); write('lacks.zip', z.end())
z = Raw(); z.add(b'm', b'A', size=0xffffffff, extra=struct.pack('<HHI', 1, 4, 0)); write('short.zip', z.end())
huge = struct.pack('<HHQ', 1, 8, 2**62 - 5)
z = Raw()
for n in b'm', b'n': z.add(n, raw=b'A', method=14, size=0xffffffff, extra=huge)
write('huge.zip', z.end())
z = Raw(); z.add(b'm', b'A' * 70000, local_extra=b'12'); d = bytearray(z.end()); d[28] = 9; write('local.zip', d)
d[0] = 0; d[28] = 2; write('magic.zip', d)
)");
  EXPECT_THAT(failure("stored.zip", ErrorKind::Corrupt), HasSubstr("m: said to be 99 bytes"));
  EXPECT_THAT(failure("bomb.zip", ErrorKind::Corrupt), HasSubstr("m: said to be 2000000 bytes"));
  EXPECT_EQ(open("best.zip").archive->tree().file_size(1), 50000000u);
  for (const char* name : {"over.zip", "last.zip", "same.zip", "lacks.zip"})
    EXPECT_THAT(failure(name, ErrorKind::Corrupt), StartsWith("m: overlaps")) << name;
  EXPECT_THAT(failure("away.zip", ErrorKind::Corrupt), StartsWith("m: said to be where"));
  EXPECT_THAT(failure("short.zip", ErrorKind::Corrupt), StartsWith("m: its sizes are missing"));
  EXPECT_THAT(failure("huge.zip", ErrorKind::Corrupt), StartsWith("n: said to be"));
  for (const char* name : {"local.zip", "magic.zip"})
    EXPECT_THAT(failure(name, ErrorKind::Corrupt), StartsWith("m: its local header is wrong"));
}

TEST_F(Zip, OverlappingMembersAsInABomb) {
  // Each local header but the last is data of all members before it.
  python(R"(
kernel = deflated(bytes(1000000)); z = Raw(); parts = []
for i in range(50):
    z.add(b'%02d' % i, bytes(1000000), 8, raw=b'')
z.out += kernel
d = bytearray(z.central)
for i in range(50): struct.pack_into('<I', d, i * 48 + 20, len(kernel) + (49 - i) * 32)
z.central = d; write('t.zip', z.end())
)");
  EXPECT_THAT(failure("t.zip", ErrorKind::Corrupt), StartsWith("00: overlaps"));
}

TEST_F(Zip, DirectoriesThatDoNotAddUp) {
  python(R"(
z = Raw()
for n in b'abc': z.add(bytes([n]), b'data')
write('few.zip', z.end(count=2)); write('many.zip', z.end(count=4))
write('offset.zip', z.end(directory_offset=5000)); write('size.zip', z.end(directory_size=140))
d = bytearray(z.end()); d[d.index(b'PK\1\2', d.index(b'PK\1\2') + 1)] = 0; write('magic.zip', d)
)");
  for (const char* name : {"few.zip", "many.zip", "magic.zip", "size.zip"})
    EXPECT_THAT(failure(name, ErrorKind::Corrupt), HasSubstr("its directory is wrong")) << name;
  EXPECT_THAT(failure("offset.zip", ErrorKind::Corrupt), HasSubstr("not where its end says"));
}

/// A zip archive of some KB with something of everything.
Bytes varied(const std::function<void(std::string_view)>& python, const std::string& path) {
  python(R"(
with zipfile.ZipFile('t.zip', 'w', 8) as z:
    z.comment = b'a comment'
    z.writestr('prose', b''.join(b'line %d\n' % i for i in range(300)))
    z.writestr('bzip2', b'words ' * 100, 12)
    z.writestr('lzma', b'words ' * 100, 14)
    z.writestr('stored', bytes(range(256)), 0)
    z.writestr('stored-large', b'0123456789' * 7000, 0)
    z.mkdir('directory') if hasattr(z, 'mkdir') else z.writestr('directory/', b'')
    for i in range(5):
        link = zipfile.ZipInfo('link%d' % i)
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        z.writestr(link, 'target of %d' % i, 8 if i % 2 else 0)
    with z.open('sixty-four', 'w', force_zip64=True) as f: f.write(b'hello')
)");
  return read_file(path);
}

/// Scans and reads everything: whatever comes of it, it must come as a Result.
void read_all(Bytes bytes) {
  const auto scanned = scan(std::make_unique<MemorySource>(std::move(bytes)));
  if (!scanned) {
    EXPECT_FALSE(scanned.error().message.empty());
    return;
  }
  const Archive& archive = *scanned->archive;
  for (Entry e = 0; e < archive.tree().entries(); ++e) {
    const auto attributes = archive.tree().attributes(e);
    if (!attributes || !S_ISREG(attributes->mode)) continue;
    Bytes data(std::min<std::uint64_t>(attributes->size, 1 * kMiB));
    const auto size = archive.read(e, 0, data, nullptr);
    if (size) {
      EXPECT_EQ(*size, data.size());
    }
  }
}

TEST_F(Zip, CutShortAnywhereIsToldOf) {
  const Bytes whole = varied([this](std::string_view s) { python(s); }, path("t.zip"));
  ASSERT_TRUE(scan(std::make_unique<MemorySource>(whole)));
  for (std::size_t size = 0; size < whole.size(); size += size < whole.size() - 1500 ? 997 : 7) {
    const auto cut = scan(std::make_unique<MemorySource>(
        Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size))));
    EXPECT_FALSE(cut) << size;
  }
}

TEST_F(Zip, DamageNeverLeadsAstray) {
  const Bytes whole = varied([this](std::string_view s) { python(s); }, path("t.zip"));
  // Headers are where damage matters: the stored data in the middle is passed over.
  const auto is_data = [](std::size_t at) { return at > 3000 && at < 70000; };
  std::mt19937 random(7);
  for (int i = 0; i < 400; ++i) {
    SCOPED_TRACE(i);
    Bytes damaged = whole;
    for (int flips = 1 + i % 3; flips > 0;) {
      const std::size_t at = random() % damaged.size();
      if (is_data(at)) continue;
      damaged[at] ^= std::byte(1 << random() % 8);
      --flips;
    }
    read_all(std::move(damaged));
  }
}

TEST_F(Zip, ExtremeNumbersNeverLeadAstray) {
  const Bytes whole = varied([this](std::string_view s) { python(s); }, path("t.zip"));
  const std::size_t directory = whole.size() - 1200;
  std::mt19937 random(8);
  for (int i = 0; i < 400; ++i) {
    SCOPED_TRACE(i);
    Bytes damaged = whole;
    const std::size_t at = directory + random() % (damaged.size() - directory - 8);
    const std::size_t width = std::size_t{1} << random() % 4;
    std::ranges::fill(std::span(damaged).subspan(at, width),
                      std::array{std::byte{0xff}, std::byte{0}, std::byte{0x7f}}[random() % 3]);
    read_all(std::move(damaged));
  }
}

}  // namespace
}  // namespace shardfs::testing
