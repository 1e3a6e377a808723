// Name shapes of real data sets, for size tests and benchmarks.
#pragma once

#include <cstdint>
#include <random>
#include <string>

#include <fmt/format.h>

#include "tests/tree/built_tree.h"

namespace shardfs {

enum class Shape { ImageNet, Numbered, Linux, Sha1Flat, Sha1Directories };

/// Members of a data set of `count` files, made one after another in archive order.
class ShapeMaker {
 public:
  ShapeMaker(Shape shape, std::uint32_t count) : shape_(shape), count_(count) {}

  Member next() {
    Member member = file(path(), size());
    // Extracted in order within minutes, with nanoseconds.
    member.mtime = {1'700'000'000 + made_ / 5000,
                    static_cast<std::uint32_t>(random_() % 1'000'000'000)};
    ++made_;
    return member;
  }

 private:
  std::uint64_t size() {
    const std::uint64_t typical = shape_ == Shape::Linux ? 16'000 : 110'000;
    return 1 + random_() % (2 * typical);
  }
  std::string path() {
    switch (shape_) {
      case Shape::ImageNet:
        return imagenet();
      case Shape::Numbered:
        return fmt::format("{:06}.jpg", made_);
      case Shape::Linux:
        return linux_tree();
      case Shape::Sha1Flat:
        return sha1() + ".png";
      case Shape::Sha1Directories: {
        const std::string name = sha1();
        return name.substr(0, 2) + "/" + name + ".png";
      }
    }
    return "";
  }
  // 1,000 classes; numbers as of photographs that were picked from about ten times as many.
  std::string imagenet() {
    const std::uint32_t a_class = std::max(1u, count_ / 1000);
    const std::uint32_t wnid = 1440764 + made_ / a_class * 11943;
    number_ = made_ % a_class == 0 ? 10 : number_ + 1 + random_() % 20;
    return fmt::format("n{:08}/n{:08}_{:05}.JPEG", wnid, wnid, number_ + 10000);
  }
  // 15 files a directory, names of words of some letters, a few extensions.
  std::string linux_tree() {
    static constexpr const char* kWords[] = {"core", "main",  "pci",   "gpio", "util", "sched",
                                             "irq",  "clock", "power", "dma",  "regs", "trace"};
    static constexpr const char* kExtensions[] = {".c", ".h", ".c", ".h", ".rst", ".dts", "", ".S"};
    const std::uint32_t number = made_ / 15;
    const std::string directory =
        fmt::format("{}{:03}/{}{}/{}_{:04}", kWords[number / 1024 % 12], number / 512,
                    kWords[number / 32 % 12], number / 32 % 16, kWords[number % 12], number % 32);
    return fmt::format("{}/{}-{}{:03x}{}", directory, kWords[random_() % 12],
                       kWords[random_() % 12], made_ % 4096, kExtensions[random_() % 8]);
  }
  // Sorted: the leading digits grow, the others are random.
  std::string sha1() {
    const std::uint64_t step = (~std::uint64_t{0}) / count_;
    const std::uint64_t front = step * made_ + random_() % step;
    return fmt::format("{:016x}{:016x}{:08x}", front, random_(),
                       static_cast<std::uint32_t>(random_()));
  }

  Shape shape_;
  std::uint32_t count_;
  std::uint32_t made_ = 0;
  std::uint32_t number_ = 0;
  std::mt19937_64 random_{42};
};

/// Packs the index of a data set of that shape.
inline Result<IndexParts> pack_shape(Shape shape, std::uint32_t count) {
  Packer packer;
  ShapeMaker maker(shape, count);
  for (std::uint32_t i = 0; i < count; ++i)
    if (auto added = packer.add(maker.next()); !added) return std::unexpected(added.error());
  return packer.finish();
}

}  // namespace shardfs
