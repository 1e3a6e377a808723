#include "fs/archive/foreign/codec.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include "tests/foreign/files.h"

namespace shardfs {
namespace {

using testing::read_file;
using testing::write_file;

using ::testing::HasSubstr;

/// Lines that compress, with some bytes that do not; the same for the same seed.
Bytes sample_data(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::string text;
  while (text.size() < size) {
    text += fmt::format("line {} of {}\n", random() % 1000, random() % 7);
    if (random() % 16 == 0)
      for (int i = 0; i < 50; ++i) text += static_cast<char>(random());
  }
  text.resize(size);
  const ByteSpan bytes = as_bytes(text);
  return {bytes.begin(), bytes.end()};
}

Bytes part_of(const Bytes& all, std::size_t from, std::size_t size) {
  const ByteSpan part = ByteSpan(all).subspan(from, size);
  return {part.begin(), part.end()};
}

Bytes joined(std::initializer_list<Bytes> parts) {
  Bytes all;
  for (const Bytes& part : parts) append(all, ByteSpan(part));
  return all;
}

/// A directory in which foreign tools work; it goes away with the test.
class CodecTest : public ::testing::Test {
 protected:
  CodecTest() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "shardfs-codec-XXXXXX").string();
    EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
  }
  ~CodecTest() override { std::filesystem::remove_all(dir_); }

  static bool has(const std::string& tool) {
    return std::system(("command -v " + tool + " > /dev/null").c_str()) == 0;
  }
  void put(const std::string& name, const Bytes& bytes) const { write_file(dir_ / name, bytes); }
  [[nodiscard]] Bytes get(const std::string& name) const { return read_file(dir_ / name); }
  void run(const std::string& command) const {
    const std::string line = fmt::format("cd '{}' && {}", dir_.string(), command);
    ASSERT_EQ(std::system(("bash -c \"" + line + "\"").c_str()), 0) << command;
  }
  /// What `command` makes of `plain` on its standard input.
  [[nodiscard]] Bytes piped(const std::string& command, const Bytes& plain) const {
    put("piped.in", plain);
    run(command + " < piped.in > piped.out");
    return get("piped.out");
  }

  std::filesystem::path dir_;
};

#define NEEDS(tool) \
  if (!has(tool)) GTEST_SKIP() << "no " tool

/// Decodes with a Decoder, in parts of at most these sizes; at the input's end it gets nothing
/// more.
Result<Bytes> in_steps(const Coder& coder, ByteSpan packed, std::size_t in_part,
                       std::size_t out_part, const BlockStart* start = nullptr,
                       std::size_t most = SIZE_MAX) {
  SHARDFS_TRY(const auto decoder, make_decoder(coder, start));
  Bytes all, buffer(out_part);
  ByteSpan in;
  while (all.size() < most) {
    if (in.empty()) {
      in = packed.first(std::min(in_part, packed.size()));
      packed = packed.subspan(in.size());
    }
    const std::size_t before = in.size();
    std::span<std::byte> out = std::span(buffer).first(std::min(out_part, most - all.size()));
    const std::size_t room = out.size();
    SHARDFS_TRY(const auto progress, decoder->step(in, out));
    EXPECT_LE(in.size(), before);
    EXPECT_LE(out.size(), room);
    append(all, ByteSpan(buffer).first(room - out.size()));
    if (progress == Decoder::Progress::Done) return all;
    if (in.size() == before && out.size() == room) {
      EXPECT_TRUE(in.empty()) << "no progress, though there are input and room";
      if (packed.empty() && before == 0) return fail(ErrorKind::Corrupt, "cut short");
    }
  }
  return all;
}

Result<Bytes> in_block(const Coder& coder, ByteSpan packed, std::size_t room,
                       const BlockStart* start = nullptr) {
  Bytes all(room);
  SHARDFS_TRY(const std::size_t size, decode_block(coder, packed, all, start));
  EXPECT_LE(size, room);
  all.resize(size);
  return all;
}

void expect_bytes(const Result<Bytes>& got, const Bytes& wanted, const std::string& what) {
  ASSERT_TRUE(got) << what << ": " << got.error().message;
  EXPECT_EQ(got->size(), wanted.size()) << what;
  EXPECT_TRUE(*got == wanted) << what;
}

/// Every way to decode `packed` gives `plain`. `ends`: the block tells its own end.
void expect_decodes(const Coder& coder, ByteSpan packed, const Bytes& plain,
                    const BlockStart* start = nullptr, bool ends = true) {
  expect_bytes(in_block(coder, packed, plain.size(), start), plain, "exact");
  if (ends) expect_bytes(in_block(coder, packed, plain.size() + 1000, start), plain, "more room");
  for (const std::size_t size : {std::size_t{1}, plain.size() / 2, plain.size() - 1})
    expect_bytes(in_block(coder, packed, size, start), part_of(plain, 0, size), "less room");
  EXPECT_EQ(*in_block(coder, packed, 0, start), Bytes());
  const std::size_t most = ends ? SIZE_MAX : plain.size();
  expect_bytes(in_steps(coder, packed, 1, 100000, start, most), plain, "bytes in");
  expect_bytes(in_steps(coder, packed, 100000, 7, start, most), plain, "few bytes out");
  expect_bytes(in_steps(coder, packed, 999, 1000, start, most), plain, "parts");
  expect_bytes(in_steps(coder, packed, SIZE_MAX, plain.size() + 1, start, most), plain, "at once");
}

// ---- gzip, zlib, deflate ----

TEST_F(CodecTest, GzipMembersAndPadding) {
  const Bytes a = sample_data(300000, 1), b = sample_data(70001, 2);
  put("a", a);
  put("b", b);
  run("gzip -c a > two && gzip -9 -c b >> two && head -c 1000 /dev/zero >> two");
  run("gzip -dc two > referee");  // Padded with zeros it is no error and no warning to gzip.
  ASSERT_TRUE(get("referee") == joined({a, b}));
  expect_decodes({Codec::Gzip}, get("two"), joined({a, b}));
}

TEST_F(CodecTest, GzipOfNothing) {
  run("gzip -c < /dev/null > empty");
  ASSERT_GT(get("empty").size(), 10U);
  expect_bytes(in_block({Codec::Gzip}, get("empty"), 10), {}, "empty");
  expect_bytes(in_steps({Codec::Gzip}, get("empty"), 3, 10), {}, "empty");
}

TEST_F(CodecTest, GzipEndsBeforeWhatIsNoMember) {
  const Bytes plain = sample_data(1000, 3);
  const Bytes packed = joined({piped("gzip", plain), Bytes(10, std::byte{'x'})});
  expect_bytes(in_block({Codec::Gzip}, packed, 2000), plain, "garbage behind");
}

TEST_F(CodecTest, Zlib) {
  const Bytes plain = sample_data(100000, 4);
  const Bytes packed = piped(
      "/usr/bin/python3 -c 'import sys, zlib; "
      "sys.stdout.buffer.write(zlib.compress(sys.stdin.buffer.read()))'",
      plain);
  expect_decodes({Codec::Zlib}, packed, plain);
  expect_decodes({Codec::Squashfs, 1}, packed, plain);
  const Bytes raw = part_of(packed, 2, packed.size() - 6);
  expect_decodes({Codec::Deflate}, raw, plain);
  const BlockStart start;
  expect_decodes({Codec::Deflate}, raw, plain, &start);
}

/// Where a deflate block begins, as zlib tells.
struct Entry {
  std::size_t in = 0, out = 0;
  unsigned bits = 0;
};

std::vector<Entry> deflate_blocks(const Bytes& gz, const Bytes& plain) {
  std::vector<Entry> entries;
  Bytes out(plain.size() + 1);
  z_stream z{};
  EXPECT_EQ(inflateInit2(&z, 31), Z_OK);
  z.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(gz.data()));
  z.avail_in = static_cast<uInt>(gz.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  while (inflate(&z, Z_BLOCK) == Z_OK) {
    if ((z.data_type & 128) == 0 || (z.data_type & 64) != 0) continue;
    const unsigned unused = static_cast<unsigned>(z.data_type) & 7;
    entries.push_back(
        {z.total_in - (unused != 0 ? 1 : 0), z.total_out, unused != 0 ? 8 - unused : 0});
  }
  EXPECT_EQ(z.total_out, plain.size());
  inflateEnd(&z);
  return entries;
}

TEST_F(CodecTest, DeflateFromInsideAStream) {
  const Bytes plain = sample_data(2000000, 5);
  const Bytes gz = piped("gzip -6", plain);
  std::vector<Entry> entries = deflate_blocks(gz, plain);
  ASSERT_GT(entries.size(), 10U);
  std::set<unsigned> bits;
  for (const Entry& e : entries) bits.insert(e.bits);
  EXPECT_EQ(bits.size(), 8U) << "not all positions in a byte are there to be tried";
  entries.push_back({gz.size(), plain.size(), 0});
  for (std::size_t i = 0; i + 1 < entries.size(); ++i) {
    const Entry &e = entries[i], &next = entries[i + 1];
    const std::size_t window = std::min<std::size_t>(e.out, 32768);
    const BlockStart start{e.bits, part_of(plain, e.out - window, window)};
    const Bytes packed = part_of(gz, e.in, std::min(next.in + 1, gz.size()) - e.in);
    const Bytes wanted = part_of(plain, e.out, next.out - e.out);
    const bool last = i + 2 == entries.size();
    expect_bytes(in_block({Codec::Deflate}, packed, wanted.size(), &start), wanted, "block");
    expect_bytes(in_block({Codec::Deflate}, packed, wanted.size() / 3, &start),
                 part_of(wanted, 0, wanted.size() / 3), "part of a block");
    expect_bytes(in_steps({Codec::Deflate}, packed, 1000, 777, &start, wanted.size()), wanted,
                 "steps");
    if (last)
      expect_bytes(in_block({Codec::Deflate}, packed, wanted.size() + 9, &start), wanted, "end");
  }
}

// ---- zstd, lz4 ----

/// A frame to be skipped, as zstd and lz4 have them.
Bytes skippable(std::size_t size) {
  Bytes frame;
  append(frame, std::uint32_t{0x184D2A5B});
  append(frame, static_cast<std::uint32_t>(size));
  append(frame, ByteSpan(Bytes(size, std::byte{0x28})));
  return frame;
}

TEST_F(CodecTest, ZstdFrames) {
  NEEDS("zstd");
  const Bytes a = sample_data(400000, 6), b = sample_data(5000, 7), c = sample_data(140000, 8);
  put("a", a);
  run("zstd -q -3 --check a -o a.zst");  // Of a file: the frame tells its size.
  const Bytes packed = joined({skippable(100), get("a.zst"), skippable(0), piped("zstd -q -19", b),
                               piped("zstd -q -1 --no-check", c)});
  put("all.zst", packed);
  run("zstd -q -dc all.zst > referee");
  ASSERT_TRUE(get("referee") == joined({a, b, c}));
  expect_decodes({Codec::Zstd}, packed, joined({a, b, c}));
  expect_decodes({Codec::Squashfs, 6}, packed, joined({a, b, c}));
  expect_decodes({Codec::Zstd}, joined({packed, Bytes(50, std::byte{'x'})}), joined({a, b, c}));
}

TEST_F(CodecTest, ZstdWindowsLargerThanAStreamMayHave) {
  NEEDS("zstd");
  const Bytes plain = sample_data(300000, 9);
  Bytes packed = piped("zstd -q", plain);
  ASSERT_EQ(packed[4] & std::byte{0xe0}, std::byte{}) << "the frame tells its size";
  packed[5] = std::byte((31 - 10) << 3);  // The window's logarithm; nothing sums it up.
  put("large.zst", packed);
  run("! zstd -q -dc large.zst > /dev/null 2>&1 && zstd -q -dc --long=31 large.zst > referee");
  ASSERT_TRUE(get("referee") == plain);
  expect_bytes(in_block({Codec::Zstd}, packed, plain.size()), plain, "block");
  expect_bytes(in_block({Codec::Zstd}, packed, 1000), part_of(plain, 0, 1000), "part");
  const auto steps = in_steps({Codec::Zstd}, packed, 1000, 1000);
  ASSERT_FALSE(steps);
  EXPECT_EQ(steps.error().kind, ErrorKind::Unsupported);
}

TEST_F(CodecTest, Lz4Frames) {
  NEEDS("lz4");
  const Bytes a = sample_data(400000, 10), b = sample_data(5000, 11);
  put("a", a);
  run("lz4 -q --content-size -B4 -BD a a.lz4");
  const Bytes packed = joined({get("a.lz4"), skippable(33), piped("lz4 -q -9 -BX", b)});
  put("all.lz4", packed);
  run("lz4 -q -dc all.lz4 > referee");
  ASSERT_TRUE(get("referee") == joined({a, b}));
  expect_decodes({Codec::Lz4}, packed, joined({a, b}));
  expect_decodes({Codec::Lz4}, joined({packed, Bytes(50, std::byte{'x'})}), joined({a, b}));
}

TEST_F(CodecTest, Lz4Blocks) {
  NEEDS("lz4");
  constexpr std::size_t kHeader = 7, kEnd = 8;  // of the frame: its descriptor, a zero and a sum
  const Bytes plain = joined({sample_data(400'000, 12), Bytes(100'000), sample_data(3000, 13)});
  for (const auto& [options, parameter] :
       {std::pair{"-B4", 4}, {"-B4 -BX", 12}, {"-B7", 7}, {"-B7 -9 -BX", 15}}) {
    SCOPED_TRACE(options);
    const Coder coder{Codec::Lz4Blocks, static_cast<std::uint8_t>(parameter)};
    const Bytes frame = piped(fmt::format("lz4 -q {}", options), plain);
    const Bytes blocks = part_of(frame, kHeader, frame.size() - kHeader - kEnd);
    expect_decodes(coder, blocks, plain);
    expect_decodes(coder, part_of(frame, kHeader, frame.size() - kHeader), plain);
    const std::size_t first = sizeof(std::uint32_t) + load<std::uint32_t>(blocks.data()) +
                              (parameter > 8 ? sizeof(std::uint32_t) : 0);
    if (first < blocks.size())
      expect_decodes(coder, part_of(blocks, first, blocks.size() - first),
                     part_of(plain, 65536, plain.size() - 65536));
  }
}

// ---- xz ----

struct XzBlock {
  std::size_t in = 0, packed = 0, out = 0, size = 0;
};

TEST_F(CodecTest, XzBlocksOfEveryCheck) {
  NEEDS("xz");
  const Bytes plain = sample_data(500000, 12);
  put("plain", plain);
  for (const auto& [name, number] :
       {std::pair{"none", 0}, {"crc32", 1}, {"crc64", 4}, {"sha256", 10}}) {
    run(
        fmt::format("xz -k -f -T2 --block-size=150000 --check={} plain && "
                    "xz --robot --list -vv plain.xz > list",
                    name));
    std::ifstream list(dir_ / "list");
    std::vector<XzBlock> blocks;
    for (std::string line; std::getline(list, line);) {
      std::istringstream words(line);
      std::string kind, skip;
      XzBlock b;
      words >> kind >> skip >> skip >> skip >> b.in >> b.out >> b.packed >> b.size;
      if (kind == "block") blocks.push_back(b);
    }
    ASSERT_EQ(blocks.size(), 4U);
    const Bytes packed = get("plain.xz");
    ASSERT_EQ(std::to_integer<int>(packed[7]), number);
    for (const XzBlock& b : blocks)
      expect_decodes({Codec::Xz, static_cast<std::uint8_t>(number)},
                     part_of(packed, b.in, b.packed), part_of(plain, b.out, b.size));
  }
}

TEST_F(CodecTest, XzFilters) {
  NEEDS("xz");
  const Bytes plain = get("/bin/bash");  // For x86, something that the filter changes.
  for (const char* filters : {"--x86 --lzma2=preset=1", "--delta=dist=4 --lzma2=dict=4KiB", "-9"}) {
    const Bytes packed = piped(fmt::format("xz -T1 --check=crc32 {}", filters), plain);
    const Bytes block = part_of(packed, 12, packed.size() - 12);
    expect_bytes(in_block({Codec::Xz, 1}, block, plain.size()), plain, filters);
    expect_bytes(in_block({Codec::Xz, 1}, block, 70000), part_of(plain, 0, 70000), filters);
    expect_bytes(in_steps({Codec::Xz, 1}, block, 70000, 70000), plain, filters);
    expect_bytes(in_block({Codec::Squashfs, 4}, packed, plain.size()), plain, filters);
  }
}

TEST_F(CodecTest, XzDictionaryLargerThanAStreamMayHave) {
  NEEDS("xz");
  const Bytes plain = sample_data(100000, 13);
  Bytes packed = piped("xz -T1 --check=crc64", plain);
  Bytes block = part_of(packed, 12, packed.size() - 12);
  ASSERT_EQ(block[0], std::byte{2}) << "a header of 12 bytes";
  block[4] = std::byte{40};  // 4 GiB - 1
  const auto sum = crc32(0, reinterpret_cast<const Bytef*>(block.data()), 8);
  store(block.data() + 8, static_cast<std::uint32_t>(sum));
  expect_bytes(in_block({Codec::Xz, 4}, block, plain.size()), plain, "block");
  const auto steps = in_steps({Codec::Xz, 4}, block, 1000, 1000);
  ASSERT_FALSE(steps);
  EXPECT_EQ(steps.error().kind, ErrorKind::Unsupported);
}

TEST_F(CodecTest, XzIndexIsNoBlock) {
  const auto got = in_block({Codec::Xz, 4}, Bytes(100), 100);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().kind, ErrorKind::Corrupt);
}

// ---- bzip2 ----

/// Positions, in bits, at which a block begins, and of the end of the last.
std::vector<std::size_t> bzip2_blocks(const Bytes& packed) {
  std::vector<std::size_t> found;
  std::uint64_t last48 = 0;
  for (std::size_t bit = 0; bit < packed.size() * 8; ++bit) {
    const auto next = std::to_integer<unsigned>(packed[bit / 8] >> (7 - bit % 8)) & 1U;
    last48 = ((last48 << 1) | next) & 0xffffffffffff;
    if (last48 == 0x314159265359 || last48 == 0x177245385090) found.push_back(bit - 47);
  }
  return found;
}

TEST_F(CodecTest, Bzip2BlocksAtEveryBit) {
  NEEDS("bzip2");
  const Bytes plain = sample_data(3000000, 14);
  const Bytes packed = piped("bzip2 -1", plain);
  const auto blocks = bzip2_blocks(packed);
  ASSERT_GT(blocks.size(), 25U);
  Bytes all;
  std::set<std::size_t> bits;
  for (std::size_t i = 0; i + 1 < blocks.size(); ++i) {
    const std::size_t from = blocks[i] / 8, to = (blocks[i + 1] + 7) / 8;
    const Bytes block = part_of(packed, from, to - from);
    const BlockStart start{static_cast<unsigned>(blocks[i] % 8), {}};
    bits.insert(blocks[i] % 8);
    const auto decoded = in_block({Codec::Bzip2}, block, 200000, &start);
    ASSERT_TRUE(decoded) << i << ": " << decoded.error().message;
    append(all, ByteSpan(*decoded));
    if (i < 8) expect_decodes({Codec::Bzip2}, block, *decoded, &start);
    // What follows is not the block's, however much of it is there.
    expect_bytes(in_block({Codec::Bzip2}, ByteSpan(packed).subspan(from), 200000, &start), *decoded,
                 "all that follows");
  }
  EXPECT_EQ(bits.size(), 8U) << "not all positions in a byte are there to be tried";
  EXPECT_TRUE(all == plain);
}

TEST_F(CodecTest, Bzip2LargestBlock) {
  NEEDS("bzip2");
  const Bytes plain(30000000, std::byte{'a'});  // Runs are shortened before a block is filled.
  const Bytes packed = piped("bzip2 -9", plain);
  const auto blocks = bzip2_blocks(packed);
  ASSERT_EQ(blocks.size(), 2U);
  const Bytes block = part_of(packed, 4, packed.size() - 4);
  expect_bytes(in_block({Codec::Bzip2}, block, plain.size()), plain, "block");
}

TEST_F(CodecTest, Bzip2WrongBit) {
  NEEDS("bzip2");
  const Bytes packed = piped("bzip2", sample_data(1000, 15));
  const Bytes block = part_of(packed, 4, packed.size() - 4);
  for (unsigned bits = 1; bits < 8; ++bits) {
    const BlockStart start{bits, {}};
    const auto got = in_block({Codec::Bzip2}, block, 1000, &start);
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().kind, ErrorKind::Corrupt);
  }
}

// ---- zip ----

TEST_F(CodecTest, ZipMethods) {
  NEEDS("zip");
  NEEDS("unzip");
  const Bytes plain = sample_data(200000, 16);
  put("plain", plain);
  for (const char* options : {"-0", "-1", "-9", "-Z bzip2", "-X"}) {
    run(fmt::format("rm -f a.zip && zip -q {} a.zip plain && unzip -p a.zip plain > referee",
                    options));
    ASSERT_TRUE(get("referee") == plain);
    const bool stored = std::string_view(options) == "-0";
    expect_decodes({Codec::Zip}, get("a.zip"), plain, nullptr, !stored);
  }
  run("rm -f a.zip && cat plain | zip -q a.zip -");  // Sizes come after the data.
  expect_decodes({Codec::Zip}, get("a.zip"), plain);
}

TEST_F(CodecTest, ZipStoredMemberEndsWithTheInput) {
  NEEDS("zip");
  const Bytes plain = sample_data(5000, 17);
  put("plain", plain);
  run("zip -q -0 -X a.zip plain");
  const Bytes member = part_of(get("a.zip"), 0, 30 + 5 + plain.size());
  expect_decodes({Codec::Zip}, member, plain);
}

/// Makes a zip of one member whose data stand in a file; argv: method, plain, packed, zip.
constexpr const char* kMakeZip = R"(import struct, sys, zlib
method, plain, packed, out = sys.argv[1:]
plain, packed = open(plain, 'rb').read(), open(packed, 'rb').read()
facts = struct.pack('<HHHHHIIIHH', 63, 0, int(method), 0, 33, zlib.crc32(plain), len(packed),
                    len(plain), 4, 0)
local = b'PK\x03\x04' + facts + b'name' + packed
entry = b'PK\x01\x02\x3f\x00' + facts + struct.pack('<HHHII', 0, 0, 0, 0, 0) + b'name'
end = b'PK\x05\x06' + struct.pack('<HHHHIIH', 0, 0, 1, 1, len(entry), len(local), 0)
open(out, 'wb').write(local + entry + end)
)";

/// With and without the mark that ends LZMA data. argv: plain, packed.
constexpr const char* kPackLzma = R"(import lzma, struct, sys
data = open(sys.argv[1], 'rb').read()
filter = {'id': lzma.FILTER_LZMA1, 'preset': 6}
properties = lzma._encode_filter_properties(filter)
head = struct.pack('<BBH', 9, 20, len(properties)) + properties
open(sys.argv[2], 'wb').write(head + lzma.compress(data, lzma.FORMAT_RAW, filters=[filter]))
)";

TEST_F(CodecTest, ZipMethodsThatZipDoesNotWrite) {
  NEEDS("bsdtar");
  NEEDS("xz");
  NEEDS("zstd");
  const Bytes plain = sample_data(200000, 18);
  put("plain", plain);
  const ByteSpan make = as_bytes(kMakeZip), pack = as_bytes(kPackLzma);
  put("make.py", {make.begin(), make.end()});
  put("lzma.pack.py", {pack.begin(), pack.end()});
  const std::vector<std::pair<int, std::string>> methods = {
      {14, "/usr/bin/python3 lzma.pack.py plain packed"},
      {93, "zstd -q -f plain -o packed"},
      {93, "zstd -q < plain > packed"},
      {95, "xz -c plain > packed"}};
  for (const auto& [number, command] : methods) {
    run(command);
    run(fmt::format("/usr/bin/python3 make.py {} plain packed a.zip && bsdtar -xOf a.zip > referee",
                    number));
    ASSERT_TRUE(get("referee") == plain) << command;
    expect_decodes({Codec::Zip}, get("a.zip"), plain);
  }
}

TEST_F(CodecTest, ZipLzmaWithoutEndMark) {
  const Bytes plain = sample_data(200000, 19);
  put("plain", plain);
  run("/usr/bin/python3 -c 'import zipfile; "
      "zipfile.ZipFile(\\\"a.zip\\\", \\\"w\\\", zipfile.ZIP_LZMA).write(\\\"plain\\\")'");
  Bytes packed = get("a.zip");
  expect_decodes({Codec::Zip}, packed, plain);
  if (!has("xz")) GTEST_SKIP() << "no xz";
  // .lzma files of known size have no mark: their properties and data make a member that has none.
  run("xz --format=raw --lzma1=preset=6 -c plain > with && xz --format=lzma -c plain > alone");
  ASSERT_GT(get("with").size(), 0U);
  const Bytes alone = get("alone");
  Bytes member = part_of(packed, 0, 30 + 5);
  store(member.data() + 28, std::uint16_t{0});
  append(member, as_bytes(std::string_view("\x09\x14\x05\x00", 4)));
  append(member, ByteSpan(alone).first(5));
  append(member, ByteSpan(alone).subspan(13));
  expect_bytes(in_block({Codec::Zip}, member, plain.size()), plain, "exact");
  member.resize(member.size() - 6);  // The mark, as far as it is one.
  expect_bytes(in_block({Codec::Zip}, member, plain.size() - 10),
               part_of(plain, 0, plain.size() - 10), "without its mark");
}

TEST_F(CodecTest, ZipThatCannotBeUndone) {
  NEEDS("zip");
  put("plain", sample_data(1000, 20));
  run("zip -q -P secret locked.zip plain && zip -q a.zip plain");
  const auto locked = in_block({Codec::Zip}, get("locked.zip"), 1000);
  ASSERT_FALSE(locked);
  EXPECT_EQ(locked.error().kind, ErrorKind::Unsupported);
  EXPECT_THAT(locked.error().message, HasSubstr("encrypted"));
  Bytes other = get("a.zip");
  other[8] = std::byte{9};
  for (const auto& got :
       {in_block({Codec::Zip}, other, 1000), in_steps({Codec::Zip}, other, 9, 9)}) {
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().kind, ErrorKind::Unsupported);
    EXPECT_THAT(got.error().message, HasSubstr("deflate64"));
  }
  other[0] = std::byte{'X'};
  EXPECT_EQ(in_block({Codec::Zip}, other, 1000).error().kind, ErrorKind::Corrupt);
}

// ---- squashfs ----

/// The first data block of an image of one file that fills one block.
Bytes squashfs_block(const Bytes& image) {
  constexpr unsigned kHasOptions = 0x400;
  std::size_t from = 96;
  if ((load<std::uint16_t>(image.data() + 24) & kHasOptions) != 0)
    from += 2 + (load<std::uint16_t>(image.data() + from) & 0x7fff);
  return part_of(image, from, load<std::uint64_t>(image.data() + 64) - from);
}

TEST_F(CodecTest, SquashfsCompressors) {
  NEEDS("mksquashfs");
  NEEDS("unsquashfs");
  const Bytes plain = sample_data(131072, 21);
  run("mkdir tree");
  put("tree/plain", plain);
  int tried = 0;
  for (const auto& [name, number] :
       {std::pair{"gzip", 1}, {"lzo", 3}, {"xz", 4}, {"lz4", 5}, {"zstd", 6}}) {
    run(
        fmt::format("rm -rf a.sqfs out && mksquashfs tree a.sqfs -b 131072 -no-fragments -comp {} "
                    "> /dev/null && unsquashfs -n -d out a.sqfs > /dev/null",
                    name));
    ASSERT_TRUE(get("out/plain") == plain) << name;
    const Bytes image = get("a.sqfs");
    ASSERT_EQ(load<std::uint16_t>(image.data() + 20), number);
    const Coder coder{Codec::Squashfs, static_cast<std::uint8_t>(number)};
    const Bytes block = squashfs_block(image);
    ASSERT_LT(block.size(), plain.size()) << "not compressed";
    if (make_decoder(coder)) {
      expect_decodes(coder, block, plain);
      ++tried;
    } else {
      EXPECT_EQ(make_decoder(coder).error().kind, ErrorKind::Unsupported);
    }
  }
  EXPECT_GE(tried, 3);
}

// ---- what cannot be ----

TEST_F(CodecTest, CodersThatThereAreNot) {
  for (const Codec codec : {Codec::Stored, Codec::Zero, Codec::Slice}) {
    EXPECT_EQ(make_decoder({codec}).error().kind, ErrorKind::Invalid);
    EXPECT_EQ(in_block({codec}, Bytes(5), 5).error().kind, ErrorKind::Invalid);
  }
  for (const Coder coder :
       {Coder{Codec(99)}, Coder{Codec::Xz, 15}, Coder{Codec::Xz, 200}, Coder{Codec::Squashfs, 0},
        Coder{Codec::Squashfs, 99}, Coder{Codec::Lz4Blocks, 3}, Coder{Codec::Lz4Blocks, 20}}) {
    EXPECT_EQ(make_decoder(coder).error().kind, ErrorKind::Unsupported);
    EXPECT_EQ(in_block(coder, Bytes(5), 5).error().kind, ErrorKind::Unsupported);
  }
  const BlockStart impossible{8, {}};
  EXPECT_EQ(make_decoder({Codec::Deflate}, &impossible).error().kind, ErrorKind::Invalid);
}

struct Sample {
  std::string name;
  Coder coder;
  Bytes packed;
  BlockStart start;
  bool checked = true;  ///< a checksum covers the data
};

class HostileTest : public CodecTest {
 protected:
  void SetUp() override {
    for (const char* tool : {"gzip", "zstd", "xz", "bzip2", "lz4", "zip", "mksquashfs"})
      if (!has(tool)) GTEST_SKIP() << "no " << tool;
    put("plain", plain_);
    const Bytes gz = piped("gzip -n", plain_), xz = piped("xz -T1", plain_);
    const Bytes bz = piped("bzip2", plain_);
    add("gzip", {Codec::Gzip}, gz);
    add("deflate", {Codec::Deflate}, part_of(gz, 10, gz.size() - 18), false);
    add("zlib", {Codec::Zlib},
        piped("/usr/bin/python3 -c 'import sys, zlib; "
              "sys.stdout.buffer.write(zlib.compress(sys.stdin.buffer.read()))'",
              plain_));
    add("zstd", {Codec::Zstd}, piped("zstd -q --check", plain_));
    run("zstd -q --check plain -o sized.zst");
    add("zstd-sized", {Codec::Zstd}, get("sized.zst"));
    add("xz", {Codec::Xz, 4}, part_of(xz, 12, xz.size() - 12 - 12 - 16));
    add("bzip2", {Codec::Bzip2}, part_of(bz, 4, bz.size() - 4 - 10));
    add("lz4", {Codec::Lz4}, piped("lz4 -q", plain_));
    const Bytes lz4 = piped("lz4 -q", plain_), checked = piped("lz4 -q -BX", plain_);
    add("lz4-blocks", {Codec::Lz4Blocks, 7}, part_of(lz4, 7, lz4.size() - 15), false);
    add("lz4-blocks-checked", {Codec::Lz4Blocks, 15}, part_of(checked, 7, checked.size() - 15));
    run("zip -q -X deflate.zip plain && zip -q -X -Z bzip2 bzip2.zip plain");
    add("zip", {Codec::Zip}, get("deflate.zip"), false);
    add("zip-bzip2", {Codec::Zip}, get("bzip2.zip"), false);
    run("/usr/bin/python3 -c 'import zipfile; "
        "zipfile.ZipFile(\\\"lzma.zip\\\", \\\"w\\\", zipfile.ZIP_LZMA).write(\\\"plain\\\")'");
    add("zip-lzma", {Codec::Zip}, get("lzma.zip"), false);
    run("mkdir tree && cp plain tree");
    for (const auto& [name, number] : {std::pair{"lzo", 3}, {"lz4", 5}}) {
      run(fmt::format("rm -f a.sqfs && mksquashfs tree a.sqfs -no-fragments -comp {} > /dev/null",
                      name));
      const Coder coder{Codec::Squashfs, static_cast<std::uint8_t>(number)};
      if (make_decoder(coder))
        add(fmt::format("squashfs-{}", name), coder, squashfs_block(get("a.sqfs")), false);
    }
    for (const Sample& s : samples_)
      expect_bytes(in_block(s.coder, s.packed, plain_.size(), &s.start), plain_, s.name);
  }

  void add(std::string name, Coder coder, Bytes packed, bool checked = true) {
    samples_.push_back({std::move(name), coder, std::move(packed), {}, checked});
  }

  /// Decoded to the end, with room for more: an error, or the data themselves where a checksum
  /// tells.
  void judge(const Sample& s, const Result<Bytes>& got, const std::string& what) {
    if (!got) {
      EXPECT_FALSE(got.error().message.empty());
      EXPECT_THAT(got.error().kind, ::testing::AnyOf(ErrorKind::Corrupt, ErrorKind::Unsupported));
      return;
    }
    EXPECT_LE(got->size(), kRoom);
    if (s.checked) {
      EXPECT_TRUE(*got == plain_) << s.name << " " << what;
    }
  }

  static constexpr std::size_t kRoom = 200000;
  Bytes plain_ = sample_data(20000, 22);
  std::vector<Sample> samples_;
};

TEST_F(HostileTest, CutShort) {
  for (const Sample& s : samples_) {
    std::size_t errors = 0, cuts = 0;
    for (std::size_t size = 0; size < s.packed.size(); size += 1 + s.packed.size() / 150, ++cuts) {
      const Bytes cut = part_of(s.packed, 0, size);  // Its own array, whose end is watched.
      const auto block = in_block(s.coder, cut, plain_.size(), &s.start);
      errors += block ? 0 : 1;
      for (const auto& got : {block, in_steps(s.coder, cut, 500, 3000, &s.start)}) {
        judge(s, got, fmt::format("cut to {}", size));
        // Data that tell nothing of their size may end anywhere; but never are they others.
        if (got) {
          EXPECT_TRUE(*got == part_of(plain_, 0, got->size())) << s.name << " cut to " << size;
        }
      }
    }
    // What lies behind a zip member's data is not missed.
    EXPECT_GT(errors, cuts * 9 / 10) << s.name;
  }
}

TEST_F(HostileTest, FlippedBits) {
  std::mt19937 random(23);
  for (const Sample& s : samples_) {
    std::size_t errors = 0;
    for (int i = 0; i < 300; ++i) {
      Bytes bad = s.packed;
      // Headers are the more interesting part.
      const std::size_t reach = i % 3 == 0 ? std::min<std::size_t>(bad.size(), 60) : bad.size();
      bad[random() % reach] ^= std::byte(1 << random() % 8);
      if (i % 5 == 0) bad[random() % reach] = std::byte(random());
      const auto block = in_block(s.coder, bad, kRoom, &s.start);
      errors += block ? 0 : 1;
      judge(s, block, "in a block");
      judge(s, in_steps(s.coder, bad, 700, 3000, &s.start, kRoom), "in steps");
      (void)in_block(s.coder, bad, 5000, &s.start);
      (void)in_block(s.coder, bad, plain_.size(), &s.start);
    }
    if (s.checked) {
      EXPECT_GT(errors, 200U) << s.name;
    }
    // A decoder is used again after it failed.
    expect_bytes(in_block(s.coder, s.packed, plain_.size(), &s.start), plain_, s.name);
  }
}

TEST_F(HostileTest, Noise) {
  std::mt19937 random(24);
  for (const Sample& s : samples_) {
    for (int i = 0; i < 30; ++i) {
      Bytes bad = part_of(s.packed, 0, std::min<std::size_t>(s.packed.size(), 4 + random() % 60));
      for (int n = 0; n < 2000; ++n) bad.push_back(std::byte(random()));
      judge(s, in_block(s.coder, bad, kRoom, &s.start), "noise");
      judge(s, in_steps(s.coder, bad, 100, 3000, &s.start, kRoom), "noise in steps");
    }
  }
}

TEST_F(HostileTest, ManyThreads) {
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i)
        for (const Sample& s : samples_) {
          Bytes out(plain_.size());
          const auto size = decode_block(s.coder, s.packed, out, &s.start);
          if (!size || *size != plain_.size() || out != plain_) ++wrong;
        }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace shardfs
