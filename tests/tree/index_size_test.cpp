// How large an index is: bytes a file with nanosecond times, without what a file's pieces take (8
// bytes each; the files of these data sets have two and more where they are large).
#include <gtest/gtest.h>

#include "tests/tree/shapes.h"

namespace shardfs {
namespace {

constexpr std::uint32_t kFiles = 100'000;

/// Bytes a file with one checksum a file.
double bytes_a_file(Shape shape) {
  const auto parts = pack_shape(shape, kFiles);
  EXPECT_TRUE(parts.has_value());
  std::uint64_t checksums = 0;
  for (const auto& [section, bytes] : parts->sections)
    if (section == Section::Checksums) checksums = bytes.size();
  return static_cast<double>(parts->index_size() - checksums) / kFiles + 8;
}

TEST(IndexSize, ImageNetNames) { EXPECT_LE(bytes_a_file(Shape::ImageNet), 19.5); }
TEST(IndexSize, NumberedNames) { EXPECT_LE(bytes_a_file(Shape::Numbered), 18.5); }
TEST(IndexSize, LinuxTree) { EXPECT_LE(bytes_a_file(Shape::Linux), 31); }
TEST(IndexSize, Sha1NamesInOneDirectory) { EXPECT_LE(bytes_a_file(Shape::Sha1Flat), 40); }
TEST(IndexSize, Sha1NamesIn256Directories) { EXPECT_LE(bytes_a_file(Shape::Sha1Directories), 40); }

}  // namespace
}  // namespace shardfs
