// What other tools compressed: the stream gives what they themselves decode, and every block that
// it notes gives the same bytes alone.
#include "fs/archive/compressed/stream.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "fs/archive/foreign/block_table.h"
#include "tests/foreign/files.h"

namespace shardfs::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr std::size_t kMiB = 1024 * 1024;

/// A directory for one test, and the commands that run in it.
class Workshop {
 public:
  Workshop() {
    std::string pattern = std::filesystem::temp_directory_path() / "stream_test.XXXXXX";
    path_ = mkdtemp(pattern.data());
  }
  ~Workshop() { std::filesystem::remove_all(path_); }
  Workshop(const Workshop&) = delete;
  Workshop& operator=(const Workshop&) = delete;

  /// Exit status of a bash command.
  int run(const std::string& command) const {
    std::ofstream(path_ / "command") << "set -o pipefail\n" << command << "\n";
    const int status = std::system(
        ("cd " + path_.string() + " && exec timeout 100 bash -e command 2>messages").c_str());
    return WEXITSTATUS(status);
  }
  bool has(const std::string& tool) const { return run("command -v " + tool + " >/dev/null") == 0; }

  std::string path(const std::string& name) const { return path_ / name; }
  void write(const std::string& name, ByteSpan bytes) const { write_file(path_ / name, bytes); }
  Bytes read(const std::string& name) const { return read_file(path_ / name); }

 private:
  std::filesystem::path path_;
};

/// Pages of text and of noise in turn; the text refers to what is far behind it as well.
Bytes mixture(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  Bytes bytes;
  for (unsigned line = 0; bytes.size() < size;) {
    if (random() % 4 == 0) {
      for (unsigned n = random() % 50'000; n > 0; --n) bytes.push_back(std::byte(random()));
      continue;
    }
    for (unsigned n = random() % 3000; n > 0; --n)
      append(bytes, "line " + std::to_string(++line) + " of " + std::to_string(random() % 9999) +
                        " by the author of the others\n");
  }
  bytes.resize(size);
  return bytes;
}

struct Decoded {
  Bytes bytes;
  std::string name;
  Access access = Access::Random;
};

/// All that a stream gives. Asked again after an error it must say the same.
Result<Decoded> decode(const ByteSource& source, LayoutBuilder& layout) {
  SHARDFS_TRY(const auto stream, open_stream(source, layout));
  if (!stream) return fail(ErrorKind::NotFound, "no stream");
  Decoded decoded;
  decoded.name = stream->name();
  for (;;) {
    auto next = stream->next();
    if (!next) {
      const auto again = stream->next();
      EXPECT_FALSE(again);
      if (!again) {
        EXPECT_EQ(again.error().message, next.error().message);
      }
    }
    SHARDFS_TRY(const ByteSpan some, std::move(next));
    if (some.empty()) break;
    append(decoded.bytes, some);
  }
  decoded.access = stream->access();
  return decoded;
}

Result<Decoded> decode_file(const std::string& path) {
  SHARDFS_TRY(const auto source, FileSource::open(path));
  LayoutBuilder layout;
  return decode(*source, layout);
}

/// The block's packed bytes, and what its decoder needs. Bits become whole bytes.
Bytes packed_bytes(const ForeignBlock& block, ByteSpan file, BlockStart& start) {
  std::uint64_t offset = block.offset, end = block.offset + block.packed;
  if (block.coder.codec == Codec::Bzip2) {
    start.bits = static_cast<unsigned>(offset % 8);
    offset /= 8;
    end = (end + 7) / 8;
  }
  EXPECT_LE(end, file.size());
  const auto bytes = file.subspan(offset, end - offset);
  return Bytes(bytes.begin(), bytes.end());
}

/// Decodes every block alone. Returns the table's blocks.
std::vector<ForeignBlock> check_blocks(LayoutBuilder& layout, ByteSpan file, ByteSpan decoded) {
  std::vector<ForeignBlock> blocks;
  const auto index = layout.finish({}, {file.size(), {}, {}});
  EXPECT_TRUE(index) << index.error().message;
  const auto table = BlockTable::open(*index);
  EXPECT_TRUE(table) << table.error().message;
  EXPECT_EQ(table->stream_size(), decoded.size());
  std::uint64_t position = 0;
  for (std::uint64_t b = 0; b < table->size(); ++b) {
    SCOPED_TRACE("block " + std::to_string(b));
    const auto block = table->at(b);
    EXPECT_TRUE(block) << block.error().message;
    EXPECT_EQ(block->position, position);
    const auto at = table->start(b);
    EXPECT_TRUE(at) << at.error().message;
    const bool inside = at->has_value() || block->coder.codec == Codec::Bzip2;
    BlockStart start = at->value_or(BlockStart{});
    const Bytes packed = packed_bytes(*block, file, start);
    Bytes out(block->length);
    const auto size = decode_block(block->coder, packed, out, inside ? &start : nullptr);
    EXPECT_TRUE(size) << size.error().message;
    EXPECT_EQ(size.value_or(0), block->length);
    EXPECT_TRUE(same(out, decoded.subspan(position, block->length)));
    position += block->length;
    blocks.push_back(*block);
    if (::testing::Test::HasFailure()) break;
  }
  EXPECT_EQ(position, decoded.size());
  return blocks;
}

/// One way of compressing a file, of which a foreign tool says what is in it.
struct Case {
  std::string name;
  std::string tool;    ///< that makes it
  std::string make;    ///< bash: from the files in, small and empty to out
  std::string method;  ///< as DecodedStream::name()
  Access access = Access::Frame;
  std::size_t least = 1, most = 1'000'000;  ///< blocks
};

std::ostream& operator<<(std::ostream& to, const Case& c) { return to << c.make; }

/// Decodes out; 2 is gzip's warning that it ignored something.
std::string referee(const std::string& method) {
  if (method == "gz") return "gzip -dc <out >expected || [ $? = 2 ]";
  if (method == "zst") return "zstd -dc --long=31 <out >expected";
  if (method == "xz") return "xz -dc <out >expected";
  if (method == "bz2") return "bzip2 -dc <out >expected";
  return "lz4 -dc <out >expected";
}

/// Pieces of a size, each compressed for itself, one after the other.
std::string pieces(const std::string& size, const std::string& command) {
  return "split -b " + size + " --filter='" + command + " >>out' in";
}

const std::string kZeros = "head -c 70M /dev/zero | ";

std::vector<Case> gzip_cases() {
  return {
      {"Plain", "gzip", "gzip -c in >out", "gz", Access::Frame, 4, 8},
      {"Fast", "gzip", "gzip -1 <in >out", "gz", Access::Frame, 4, 8},
      {"Best", "gzip", "gzip -9 <in >out", "gz", Access::Frame, 4, 8},
      {"Empty", "gzip", "gzip <empty >out", "gz", Access::Frame, 0, 0},
      {"Small", "gzip", "gzip <small >out", "gz", Access::Frame, 1, 1},
      {"Noise", "gzip", "head -c 9M /dev/urandom | gzip >out", "gz", Access::Frame, 7, 10},
      {"Zeros", "gzip", kZeros + "gzip >out", "gz", Access::Frame, 8, 70},
      {"ByPython", "/usr/bin/python3",
       "/usr/bin/python3 -c 'import gzip; gzip.open(\"out\", \"w\").write(open(\"in\", "
       "\"rb\").read())'",
       "gz", Access::Frame, 4, 8},
      {"StoredOnly", "/usr/bin/python3",
       "/usr/bin/python3 -c 'import gzip; "
       "gzip.open(\"out\", \"w\", 0).write(open(\"in\", \"rb\").read())'",
       "gz", Access::Frame, 4, 8},
      {"Large", "gzip", "for f in in empty small in small; do gzip -c $f; done >out", "gz",
       Access::Frame, 8, 16},
      {"SmallMembers", "gzip", pieces("10000", "gzip"), "gz", Access::Frame, 50, 80},
      {"SmallThenLarge", "gzip", pieces("10000", "gzip") + "; cat in | gzip >>out", "gz",
       Access::Frame, 50, 90},
      {"EmptyMembers", "gzip",
       "gzip <empty >e; for i in {1..99}; do cat e; done >out; gzip <small >>out; cat e e >>out;"
       "gzip <small >>out; cat e e >>out",
       "gz", Access::Frame, 1, 1},
      {"TrailingZeros", "gzip", "gzip <in >out; head -c 100000 /dev/zero >>out", "gz"},
      {"TrailingGarbage", "gzip", "gzip <in >out; echo garbage >>out", "gz"},
      {"ZerosAndGarbage", "gzip", "gzip <in >out; head -c 99 /dev/zero >>out; echo x >>out", "gz"},
      {"Pigz", "pigz", "pigz -p2 <in >out", "gz", Access::Frame, 4, 8},
      {"PigzIndependent", "pigz", "pigz -p2 -i -b 512 <in >out", "gz", Access::Frame, 3, 8},
      {"PigzZopfli", "pigz", "pigz -p2 -11 -I 1 <small >out", "gz", Access::Frame, 1, 1},
      {"Bgzip", "bgzip", "bgzip -c in >out", "gz", Access::Frame, 35, 45},
  };
}

std::vector<Case> zstd_cases() {
  return {
      {"Plain", "zstd", "zstd -c in >out", "zst", Access::Frame, 1, 1},
      {"Stream", "zstd", "cat in | zstd --no-check >out", "zst", Access::Frame, 1, 1},
      {"Empty", "zstd", "zstd <empty >out", "zst", Access::Frame, 0, 0},
      {"Best", "zstd", "zstd -12 -T2 <in >out", "zst", Access::Frame, 1, 1},
      {"LongWindow", "zstd", "cat in | zstd -1 --long=28 >out", "zst", Access::Frame, 1, 1},
      {"Noise", "zstd", "head -c 9M /dev/urandom | zstd >out", "zst", Access::Frame, 1, 1},
      {"OneHugeFrame", "zstd", kZeros + "zstd >out", "zst", Access::Sequential, 1, 1},
      {"HugeThenSmall", "zstd", kZeros + "zstd >out; zstd <small >>out", "zst", Access::Sequential,
       2, 2},
      {"SmallFrames", "zstd", pieces("10000", "zstd"), "zst", Access::Frame, 50, 80},
      {"LargerFrames", "zstd", pieces("300000", "zstd"), "zst", Access::Frame, 17, 18},
      {"EmptyFrames", "zstd",
       "zstd <empty >e; cat e e >out; zstd <small >>out; cat e e >>out; zstd <small >>out;"
       "cat e >>out",
       "zst", Access::Frame, 1, 1},
      {"SkippableFrames", "zstd",
       R"(printf '\x5e\x2a\x4d\x18\x03\0\0\0abc' >s; cat s s >out; zstd <in >>out; cat s >>out;
          zstd <small >>out; cat s s >>out)",
       "zst", Access::Frame, 2, 2},
      {"Pzstd", "pzstd", "pzstd -p 2 -c in >out", "zst", Access::Frame, 1, 99},
  };
}

std::vector<Case> xz_cases() {
  const std::string python =
      "/usr/bin/python3 -c 'import lzma; lzma.open(\"out\", \"w\", check=lzma.CHECK_SHA256, "
      "preset=0)"
      ".write(open(\"in\", \"rb\").read())'";
  return {
      {"Plain", "xz", "xz -0 -c in >out", "xz", Access::Frame, 1, 1},
      {"Empty", "xz", "xz <empty >out", "xz", Access::Frame, 0, 0},
      {"Blocks", "xz", "xz -0 -T2 --block-size=1MiB -c in >out", "xz", Access::Frame, 5, 6},
      {"SmallBlocks", "xz", "xz -0 --block-size=20000 -c in >out", "xz", Access::Frame, 250, 270},
      {"NoCheck", "xz", "xz -0 --check=none -T2 --block-size=1MiB -c in >out", "xz"},
      {"Crc32", "xz", "xz -0 --check=crc32 <in >out", "xz"},
      {"Sha256ByPython", "/usr/bin/python3", python, "xz"},
      {"Filters", "xz", "xz --x86 --delta=dist=4 --lzma2=preset=0 <in >out", "xz"},
      {"Noise", "xz", "head -c 9M /dev/urandom | xz -0 >out", "xz", Access::Frame, 1, 1},
      {"OneHugeBlock", "xz", kZeros + "xz -0 -T1 >out", "xz", Access::Sequential, 1, 1},
      {"StreamsOfOtherChecks", "xz",
       "xz -0 -c in >out; xz -0 --check=crc32 <small >>out; xz <empty >>out;"
       "xz -0 --check=sha256 --block-size=99999 <in >>out",
       "xz", Access::Frame, 50, 60},
      {"Padding", "xz",
       "xz -0 -c in >out; head -c 4096 /dev/zero >>out; xz <small >>out; head -c 8 /dev/zero >>out",
       "xz", Access::Frame, 2, 2},
      {"Pixz", "pixz", "pixz -t -p2 -0 -f 0.2 in out", "xz", Access::Frame, 2, 200},
  };
}

/// Bytes whose set, as bzip2 writes it down in front of a block, looks like the magic of another.
std::string false_magic(const std::string& set) {
  return "/usr/bin/python3 -c '\n"
         "import random\n"
         "bits = bin(int(\"" +
         set +
         "\", 16))[2:].zfill(64)\n"
         "ranges = [r for r in range(16) if bits[r] == \"1\"]\n"
         "used = [r * 16 + b for i, r in enumerate(ranges) for b in range(16)\n"
         "        if bits[16 + 16 * i + b] == \"1\"]\n"
         "open(\"odd\", \"wb\").write(bytes(random.choices(used, k=300000)))\n'; "
         "bzip2 -1 <odd >out";
}

std::vector<Case> bzip2_cases() {
  const std::string python =
      "/usr/bin/python3 -c 'import bz2; bz2.open(\"out\", \"w\").write(open(\"in\", "
      "\"rb\").read())'";
  return {
      {"Plain", "bzip2", "bzip2 -c in >out", "bz2", Access::Frame, 5, 7},
      {"SmallBlocks", "bzip2", "bzip2 -1 -c in >out", "bz2", Access::Frame, 50, 60},
      {"Empty", "bzip2", "bzip2 <empty >out", "bz2", Access::Frame, 0, 0},
      {"Small", "bzip2", "bzip2 <small >out", "bz2", Access::Frame, 1, 1},
      {"Noise", "bzip2", "head -c 9M /dev/urandom | bzip2 -1 >out", "bz2", Access::Frame, 90, 96},
      {"Zeros", "bzip2", kZeros + "bzip2 >out", "bz2", Access::Frame, 2, 3},
      {"Streams", "bzip2", pieces("70000", "bzip2"), "bz2", Access::Frame, 75, 77},
      {"EmptyStreams", "bzip2",
       "for f in empty small empty empty in empty; do bzip2 -c $f; done >out", "bz2", Access::Frame,
       6, 8},
      {"TrailingGarbage", "bzip2", "bzip2 <in >out; echo garbage >>out", "bz2"},
      {"TrailingZeros", "bzip2", "bzip2 <in >out; head -c 5000 /dev/zero >>out", "bz2"},
      // Three ranges of bytes are used; then follow the sets of bytes of each.
      {"FalseBlockMagic", "bzip2", false_magic("7000314159265359"), "bz2", Access::Frame, 3, 4},
      {"FalseEndMagic", "bzip2", false_magic("7000177245385090"), "bz2", Access::Frame, 3, 4},
      {"ByPython", "/usr/bin/python3", python, "bz2", Access::Frame, 5, 7},
      {"Pbzip2", "pbzip2", "pbzip2 -p2 -b1 -c in >out", "bz2", Access::Frame, 50, 60},
  };
}

std::vector<Case> lz4_cases() {
  return {
      {"Plain", "lz4", "lz4 -c in >out", "lz4", Access::Frame, 2, 2},
      {"SmallBlocks", "lz4", "lz4 -B4 -BX --content-size in out", "lz4", Access::Frame, 20, 21},
      {"SmallAndLarge", "lz4",
       "for f in small small in small small in empty small; do lz4 -B5 <$f; done >out", "lz4",
       Access::Frame, 43, 45},
      {"Linked", "lz4", "lz4 -9 -BD -B4 <in >out", "lz4", Access::Frame, 1, 1},
      {"NoChecksum", "lz4", "lz4 --no-frame-crc -BX <in >out", "lz4", Access::Frame, 2, 2},
      {"Empty", "lz4", "lz4 <empty >out", "lz4", Access::Frame, 0, 0},
      {"Noise", "lz4", "head -c 9M /dev/urandom | lz4 >out", "lz4", Access::Frame, 3, 3},
      {"OneHugeFrame", "lz4", kZeros + "lz4 >out", "lz4", Access::Frame, 17, 40},
      {"OneHugeLinkedFrame", "lz4", kZeros + "lz4 -BD >out", "lz4", Access::Sequential, 1, 1},
      {"SmallFrames", "lz4", pieces("10000", "lz4"), "lz4", Access::Frame, 50, 80},
      {"SkippableFrames", "lz4",
       R"(printf '\x50\x2a\x4d\x18\x03\0\0\0abc' >s; cat s >out; lz4 <in >>out; cat s s >>out;
          lz4 <small >>out; cat s >>out)",
       "lz4", Access::Frame, 3, 3},
  };
}

class Compressed : public ::testing::TestWithParam<Case> {};
std::string name_of(const ::testing::TestParamInfo<Case>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(Gzip, Compressed, ::testing::ValuesIn(gzip_cases()), name_of);
INSTANTIATE_TEST_SUITE_P(Zstd, Compressed, ::testing::ValuesIn(zstd_cases()), name_of);
INSTANTIATE_TEST_SUITE_P(Xz, Compressed, ::testing::ValuesIn(xz_cases()), name_of);
INSTANTIATE_TEST_SUITE_P(Bzip2, Compressed, ::testing::ValuesIn(bzip2_cases()), name_of);
INSTANTIATE_TEST_SUITE_P(Lz4, Compressed, ::testing::ValuesIn(lz4_cases()), name_of);

TEST_P(Compressed, GivesWhatTheToolDecodes) {
  const Case& c = GetParam();
  const Workshop shop;
  if (!shop.has(c.tool)) GTEST_SKIP() << c.tool << " is not there";
  shop.write("in", mixture(5 * kMiB + 12'345, 1));
  shop.write("small", mixture(30'000, 2));
  shop.write("empty", {});
  ASSERT_EQ(shop.run(c.make), 0);
  ASSERT_EQ(shop.run(referee(c.method)), 0);
  const Bytes file = shop.read("out"), expected = shop.read("expected");

  const auto source = FileSource::open(shop.path("out"));
  ASSERT_TRUE(source);
  LayoutBuilder layout;
  const auto decoded = decode(**source, layout);
  ASSERT_TRUE(decoded) << decoded.error().message;
  EXPECT_EQ(decoded->name, c.method);
  EXPECT_EQ(decoded->access, c.access);
  ASSERT_TRUE(same(decoded->bytes, expected));
  const auto blocks = check_blocks(layout, file, expected);
  EXPECT_GE(blocks.size(), c.least);
  EXPECT_LE(blocks.size(), c.most);
}

TEST(Stream, GzipMemberMayBeEnteredEveryMebibyte) {
  const Workshop shop;
  shop.write("in", mixture(9 * kMiB, 3));
  ASSERT_EQ(shop.run("gzip <in >out"), 0);
  const auto source = FileSource::open(shop.path("out"));
  LayoutBuilder layout;
  const auto decoded = decode(**source, layout);
  ASSERT_TRUE(decoded);
  const auto blocks = check_blocks(layout, shop.read("out"), decoded->bytes);
  ASSERT_GE(blocks.size(), 7u);
  for (const auto& block : blocks) {
    EXPECT_EQ(block.coder, (Coder{Codec::Deflate, 0}));
    EXPECT_LT(block.length, 2 * kMiB);
    if (&block != &blocks.back()) {
      EXPECT_GE(block.length, kMiB);
    }
  }
}

/// Of the 32 KiB before a point only what is referred to is kept.
TEST(Stream, NoiseNeedsNoWindows) {
  const Workshop shop;
  ASSERT_EQ(shop.run("head -c 9M /dev/urandom | gzip >out"), 0);
  const auto source = FileSource::open(shop.path("out"));
  LayoutBuilder layout;
  ASSERT_TRUE(decode(**source, layout));
  const auto index = layout.finish({}, {(*source)->size(), {}, {}});
  ASSERT_TRUE(index);
  EXPECT_LT(index->superblock.index_size, 40'000u);
}

TEST(Stream, SmallMembersAreGrouped) {
  const Workshop shop;
  shop.write("in", mixture(3 * kMiB, 3));
  ASSERT_EQ(shop.run(pieces("30000", "gzip")), 0);
  const auto source = FileSource::open(shop.path("out"));
  LayoutBuilder layout;
  const auto decoded = decode(**source, layout);
  ASSERT_TRUE(decoded);
  const auto blocks = check_blocks(layout, shop.read("out"), decoded->bytes);
  for (const auto& block : blocks) {
    EXPECT_EQ(block.coder, (Coder{Codec::Gzip, 0}));
    EXPECT_LE(block.length, kMiB);
    if (&block != &blocks.back()) {
      EXPECT_GE(block.length, 64u * 1024);
    }
  }
}

/// A gzip header with all that it may have, in front of raw deflate data.
TEST(Stream, GzipHeaderWithEveryPart) {
  const Workshop shop;
  shop.write("in", mixture(100'000, 4));
  const std::string script = R"(
import struct, zlib
data = open("in", "rb").read()
packer = zlib.compressobj(6, zlib.DEFLATED, -15)
header = (b"\x1f\x8b\x08\x1f" + bytes(6) + struct.pack("<H", 300) + bytes(range(100)) * 3 +
          b"a name\0" + b"a comment\0")
header += struct.pack("<H", zlib.crc32(header) & 0xffff)
trailer = struct.pack("<II", zlib.crc32(data), len(data))
open("out", "wb").write(header + packer.compress(data) + packer.flush() + trailer)
)";
  shop.write("script", as_bytes(script));
  ASSERT_EQ(shop.run("/usr/bin/python3 script; gzip -dc <out >expected; cmp in expected"), 0);
  const auto decoded = decode_file(shop.path("out"));
  ASSERT_TRUE(decoded) << decoded.error().message;
  EXPECT_TRUE(same(decoded->bytes, shop.read("in")));
  // The checksum of the header is looked at.
  Bytes bad = shop.read("out");
  bad[12] ^= std::byte{1};
  shop.write("out", bad);
  EXPECT_NE(shop.run("gzip -dc <out"), 0);
  EXPECT_FALSE(decode_file(shop.path("out")));
}

/// The beginning of a frame, stream or member is found wherever the requests' borders are.
class Border : public ::testing::TestWithParam<std::uint32_t> {};
INSTANTIATE_TEST_SUITE_P(BytesBefore, Border, ::testing::Values(0, 1, 2, 3, 4, 5, 7, 8, 11));

TEST_P(Border, InsideAHeader) {
  const Workshop shop;
  const Bytes small = mixture(30'000, 5);
  shop.write("small", small);
  ASSERT_EQ(shop.run("zstd <small >z; lz4 <small >l; xz <small >x"), 0);
  const auto fill = static_cast<std::uint32_t>(4 * kMiB - GetParam());

  Bytes skipped;
  append(skipped, std::uint32_t{0x184d2a53});
  append(skipped, fill - 8);
  skipped.resize(fill);
  for (const std::string packed : {"z", "l"}) {
    Bytes file = skipped;
    append(file, ByteSpan(shop.read(packed)));
    shop.write("out", file);
    const auto decoded = decode_file(shop.path("out"));
    ASSERT_TRUE(decoded) << decoded.error().message;
    EXPECT_TRUE(same(decoded->bytes, small));
  }

  Bytes file = shop.read("x");
  file.resize(fill / 4 * 4);
  append(file, ByteSpan(shop.read("x")));
  shop.write("out", file);
  const auto decoded = decode_file(shop.path("out"));
  ASSERT_TRUE(decoded) << decoded.error().message;
  EXPECT_EQ(decoded->bytes.size(), 2 * small.size());
}

/// The first member's header has a comment that makes it as long as it is to be.
TEST_P(Border, InsideAGzipHeaderOrTrailer) {
  const Workshop shop;
  shop.write("small", mixture(30'000, 5));
  ASSERT_EQ(shop.run("gzip -n <small >g"), 0);
  const Bytes member = shop.read("g");
  for (const std::size_t end : {4 * kMiB - GetParam(), 4 * kMiB + GetParam()}) {
    Bytes file(member.begin(), member.begin() + 10);
    file[3] = std::byte{16};
    file.resize(end - member.size() + 9, std::byte{'c'});
    file.push_back(std::byte{0});
    append(file, ByteSpan(member).subspan(10));
    ASSERT_EQ(file.size(), end);
    append(file, ByteSpan(member));
    shop.write("out", file);
    ASSERT_EQ(shop.run("gzip -dc <out >expected"), 0);
    const auto decoded = decode_file(shop.path("out"));
    ASSERT_TRUE(decoded) << decoded.error().message;
    EXPECT_TRUE(same(decoded->bytes, shop.read("expected")));
  }
}

TEST(Stream, OtherFilesAreNone) {
  const Workshop shop;
  Bytes skippable_only;
  append(skippable_only, std::uint32_t{0x184d2a53});
  append(skippable_only, std::uint32_t{0});
  const std::vector<Bytes> others = {{},
                                     {std::byte{0x1f}},
                                     Bytes(1000),
                                     mixture(1000, 6),
                                     skippable_only,
                                     Bytes(9, std::byte{'B'})};
  for (const Bytes& bytes : others) {
    shop.write("out", bytes);
    const auto decoded = decode_file(shop.path("out"));
    ASSERT_FALSE(decoded);
    EXPECT_EQ(decoded.error().kind, ErrorKind::NotFound);
  }
}

TEST(Stream, WhatIsNotDoneIsSaid) {
  const Workshop shop;
  const auto expect_unsupported = [&](const std::string& what) {
    const auto decoded = decode_file(shop.path("out"));
    ASSERT_FALSE(decoded);
    EXPECT_EQ(decoded.error().kind, ErrorKind::Unsupported);
    EXPECT_THAT(decoded.error().message, StartsWith(shop.path("out")));
    EXPECT_THAT(decoded.error().message, HasSubstr(what));
  };
  shop.write("in", mixture(50'000, 7));
  if (shop.has("lz4")) {
    ASSERT_EQ(shop.run("lz4 -l <in >out"), 0);
    expect_unsupported("legacy");
  }
  // A frame without anything whose window is 2 GiB and an eighth.
  ASSERT_EQ(shop.run(R"(printf '\x28\xb5\x2f\xfd\0\xa9\x01\0\0' >out)"), 0);
  expect_unsupported("window");
  // One that asks for dictionary 7.
  ASSERT_EQ(shop.run(R"(printf '\x28\xb5\x2f\xfd\x21\x07\x00\x01\0\0' >out)"), 0);
  expect_unsupported("dictionary");
  ASSERT_EQ(shop.run("gzip <in >out; printf '\\xff' | dd of=out bs=1 seek=3 conv=notrunc"), 0);
  expect_unsupported("flags");
}

/// What follows the last member is ignored, but not a member whose header was damaged.
TEST(Stream, DamagedHeaderIsNoGarbage) {
  const Workshop shop;
  shop.write("in", mixture(50'000, 8));
  for (const std::string tool : {"gzip", "bzip2"}) {
    ASSERT_EQ(shop.run(tool + " <in >one; cat one one >out"), 0);
    const std::size_t size = shop.read("one").size();
    for (std::size_t at = size; at < size + 3; ++at) {
      Bytes bad = shop.read("out");
      bad[at] ^= std::byte{0x10};
      shop.write("bad", bad);
      const auto decoded = decode_file(shop.path("bad"));
      ASSERT_FALSE(decoded) << tool << " byte " << at - size;
      EXPECT_EQ(decoded.error().kind, ErrorKind::Corrupt);
    }
  }
}

/// Fails one of its reads.
class FailingSource final : public ByteSource {
 public:
  FailingSource(const ByteSource& source, std::uint64_t at) : source_(source), at_(at) {}
  [[nodiscard]] Result<void> read_at(std::uint64_t offset,
                                     std::span<std::byte> out) const override {
    if (offset == at_) return fail(ErrorKind::Io, "failed on purpose");
    return source_.read_at(offset, out);
  }
  [[nodiscard]] std::uint64_t size() const override { return source_.size(); }
  [[nodiscard]] const std::string& name() const override { return source_.name(); }

 private:
  const ByteSource& source_;
  std::uint64_t at_;
};

TEST(Stream, FailedReadIsPassedOn) {
  const Workshop shop;
  ASSERT_EQ(shop.run("head -c 9M /dev/urandom | zstd >out"), 0);
  const auto file = FileSource::open(shop.path("out"));
  for (const std::uint64_t at : {std::uint64_t{0}, std::uint64_t{4 * kMiB}}) {
    const FailingSource source(**file, at);
    LayoutBuilder layout;
    const auto decoded = decode(source, layout);
    ASSERT_FALSE(decoded);
    EXPECT_EQ(decoded.error().message, "failed on purpose");
  }
}

/// Three members, of which the second is empty.
class Damaged : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const std::string tool = GetParam().substr(0, GetParam().find(' '));
    if (!shop_.has(tool)) GTEST_SKIP() << tool << " is not there";
    shop_.write("in", mixture(150'000, 9));
    shop_.write("empty", {});
    ASSERT_EQ(shop_.run(GetParam() + " -1 <in >one; " + GetParam() +
                        " <empty >none; cat one none one >good"),
              0);
    good_ = shop_.read("good");
    bytes_ = shop_.read("in");
    const std::size_t one = shop_.read("one").size();
    borders_ = {one, one + shop_.read("none").size()};
    append(bytes_, ByteSpan(shop_.read("in")));
  }

  Result<Decoded> try_it(const Bytes& bad) {
    shop_.write("bad", bad);
    auto decoded = decode_file(shop_.path("bad"));
    if (!decoded && decoded.error().kind == ErrorKind::Corrupt) {
      EXPECT_THAT(decoded.error().message, StartsWith(shop_.path("bad")));
      EXPECT_THAT(decoded.error().message, HasSubstr(" at byte "));
    }
    return decoded;
  }

  Workshop shop_;
  Bytes good_;                        ///< the file
  Bytes bytes_;                       ///< what is in it
  std::vector<std::size_t> borders_;  ///< where nothing is missing but the rest
};

std::string tool_name(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::erase_if(name, [](char c) { return c == ' ' || c == '-'; });
  return name;
}
// With threads xz notes sizes, by which blocks are decoded ahead.
INSTANTIATE_TEST_SUITE_P(By, Damaged,
                         ::testing::Values("gzip", "zstd", "xz", "xz -T2", "bzip2", "lz4"),
                         tool_name);

TEST_P(Damaged, CutShortIsAnError) {
  std::mt19937 random(10);
  std::vector<std::size_t> sizes = {0, 1, 2, 3, 5, 9, 10, 17, 18, good_.size() - 1};
  for (const std::size_t border : borders_)
    for (std::size_t size = border - 9; size < border + 20; ++size) sizes.push_back(size);
  while (sizes.size() < 150) sizes.push_back(random() % good_.size());
  for (const std::size_t size : sizes) {
    const auto decoded = try_it(Bytes(good_.begin(), good_.begin() + std::ptrdiff_t(size)));
    if (std::ranges::find(borders_, size) == borders_.end()) {
      ASSERT_FALSE(decoded) << size;
    } else {
      ASSERT_TRUE(decoded) << size;
      ASSERT_EQ(decoded->bytes.size(), bytes_.size() / 2);
    }
  }
}

TEST_P(Damaged, FlippedBitGivesNoOtherBytes) {
  std::mt19937 random(11);
  unsigned noticed = 0;
  for (unsigned i = 0; i < 300; ++i) {
    Bytes bad = good_;
    // Headers are few bytes among many: every third flip is near the beginning of a member.
    std::size_t at = random() % good_.size();
    if (i % 3 == 0) at = (i % 2 == 0 ? 0 : borders_[i / 2 % 2]) + random() % 24;
    bad[at % good_.size()] ^= std::byte(1u << random() % 8);
    const auto decoded = try_it(bad);
    if (decoded) {
      ASSERT_TRUE(same(decoded->bytes, bytes_)) << at;
    } else {
      ++noticed;
    }
  }
  EXPECT_GT(noticed, 200u);
}

TEST(Stream, FlippedBitInALargeMemberIsNoticed) {
  const Workshop shop;
  shop.write("in", mixture(3 * kMiB, 13));
  ASSERT_EQ(shop.run("gzip <in >good"), 0);
  const Bytes good = shop.read("good"), bytes = shop.read("in");
  std::mt19937 random(14);
  for (unsigned i = 0; i < 60; ++i) {
    Bytes bad = good;
    const std::size_t at = 100 + random() % (good.size() - 100);
    bad[at] ^= std::byte(1u << random() % 8);
    shop.write("bad", bad);
    const auto decoded = decode_file(shop.path("bad"));
    // Up to 7 bits behind the last block mean nothing.
    if (decoded) {
      ASSERT_TRUE(same(decoded->bytes, bytes) && at + 9 == good.size()) << at;
    }
  }
}

TEST_P(Damaged, OverwrittenStretchGivesNoOtherBytes) {
  std::mt19937 random(12);
  for (unsigned i = 0; i < 50; ++i) {
    Bytes bad = good_;
    const std::size_t at = random() % good_.size();
    for (std::size_t b = at; b < std::min(at + 1 + random() % 300, bad.size()); ++b)
      bad[b] = std::byte(random());
    const auto decoded = try_it(bad);
    if (decoded) {
      ASSERT_TRUE(same(decoded->bytes, bytes_)) << at;
    }
  }
}

}  // namespace
}  // namespace shardfs::testing
