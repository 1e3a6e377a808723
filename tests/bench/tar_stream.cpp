// Writes a tar stream of made-up members to standard output, fast enough to time its reader.
//
//   bench_tar_stream imagenet|numbered|linux|sha1 COUNT [MEAN_SIZE]
//
// The kinds differ in their names, which decide what an index costs. Every member has a pax header
// with a time in nanoseconds, as GNU tar writes with --format=posix. The same arguments give the
// same bytes.
#include <array>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

namespace {

constexpr std::size_t kBlock = 512;

/// Collects the stream and hands it on in large writes.
class Out {
 public:
  void write(std::string_view bytes) {
    buffer_.append(bytes);
    if (buffer_.size() >= kFlush) flush();
  }
  void pad() { write(std::string_view(kZeros, (kBlock - written() % kBlock) % kBlock)); }
  void flush() {
    for (std::string_view left = buffer_; !left.empty();) {
      const ssize_t n = ::write(STDOUT_FILENO, left.data(), left.size());
      if (n < 0) std::_Exit(1);  // the reader has gone
      left.remove_prefix(static_cast<std::size_t>(n));
    }
    flushed_ += buffer_.size();
    buffer_.clear();
  }
  [[nodiscard]] std::uint64_t written() const { return flushed_ + buffer_.size(); }

 private:
  static constexpr std::size_t kFlush = 1 << 20;
  static constexpr char kZeros[kBlock] = {};
  std::string buffer_;
  std::uint64_t flushed_ = 0;
};

void octal(char* field, std::size_t digits, std::uint64_t value) {
  for (std::size_t i = digits; i-- > 0; value >>= 3)
    field[i] = static_cast<char>('0' + (value & 7));
}

void header(Out& out, std::string_view name, char type, std::uint64_t size, std::uint64_t mtime) {
  std::array<char, kBlock> block = {};
  name.copy(block.data(), 100);  // none of the kinds makes a longer one
  octal(&block[100], 7, type == '5' ? 0755 : 0644);
  octal(&block[108], 7, 1000);
  octal(&block[116], 7, 1000);
  octal(&block[124], 11, size);
  octal(&block[136], 11, mtime);
  block[156] = type;
  std::memcpy(&block[257], "ustar\00000", 8);
  std::memset(&block[148], ' ', 8);
  std::uint64_t sum = 0;
  for (const char c : block) sum += static_cast<unsigned char>(c);
  octal(&block[148], 6, sum);
  block[154] = '\0';
  out.write({block.data(), block.size()});
}

/// Members with times and data drawn from one seeded source.
class Members {
 public:
  explicit Members(std::uint64_t mean_size) : mean_size_(mean_size), data_(1 << 22, '\0') {
    for (char& c : data_) c = static_cast<char>(random_());
  }

  void add(std::string_view path, bool directory = false) {
    const std::uint64_t seconds = 1'600'000'000 + random_() % 100'000'000;
    const std::uint64_t size = directory ? 0 : random_() % (2 * mean_size_ + 1);
    const auto time = fmt::format("30 mtime={}.{:09}\n", seconds, random_() % 1'000'000'000);
    header(out_, "PaxHeaders/m", 'x', time.size(), seconds);
    out_.write(time);
    out_.pad();
    header(out_, path, directory ? '5' : '0', size, seconds);
    out_.write(std::string_view(data_).substr(random_() % (data_.size() - size), size));
    out_.pad();
  }

  void finish() {
    out_.write(std::string(2 * kBlock, '\0'));
    out_.flush();
  }

  [[nodiscard]] std::uint64_t random() { return random_(); }

 private:
  std::uint64_t mean_size_;
  std::mt19937_64 random_{1};
  std::string data_;
  Out out_;
};

void imagenet(Members& members, std::uint64_t count) {
  members.add("train/", true);
  std::uint64_t synset = 1'440'764;
  for (std::uint64_t i = 0; i < count; ++i) {
    if (i % 1000 == 0) members.add(fmt::format("train/n{:08}/", synset += 997), true);
    members.add(fmt::format("train/n{:08}/n{:08}_{}.JPEG", synset, synset, i % 1000 * 13));
  }
}

void numbered(Members& members, std::uint64_t count) {
  members.add("images/", true);
  for (std::uint64_t i = 0; i < count; ++i) members.add(fmt::format("images/{:07}.png", i));
}

constexpr std::array kWords = {
    "arch",    "block",  "core",     "drm",     "edac",  "firmware", "gpio",     "hwmon",
    "input",   "jbd2",   "kernel",   "leds",    "media", "net",      "of",       "pci",
    "quota",   "regmap", "sound",    "thermal", "usb",   "video",    "wireless", "xfs",
    "staging", "zorro",  "platform", "crypto",  "mm",    "samples",  "tools",    "virt"};
constexpr std::array kEndings = {".c",    ".h", ".c",    ".h", ".rst",
                                 ".yaml", ".S", ".json", ".c", ".txt"};

/// Folders of 16 files, four deep, 32 folders in each.
void linux_tree(Members& members, std::uint64_t count) {
  std::string folder;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t number = i / 16;
    if (i % 16 == 0) {
      folder = "linux/";
      if (number == 0) members.add(folder, true);
      for (std::uint64_t below = 32 * 32 * 32; below > 0; below /= 32) {
        folder += fmt::format("{}/", kWords[number / below % 32]);
        if (number % below == 0) members.add(folder, true);
      }
    }
    const auto word = members.random();
    members.add(fmt::format("{}{}-{}{}{}", folder, kWords[word % 32], kWords[word / 32 % 32],
                            i % 16, kEndings[word / 1024 % kEndings.size()]));
  }
}

/// 256 folders by the first byte, the names sorted as a directory listing would be.
void sha1(Members& members, std::uint64_t count) {
  members.add("objects/", true);
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t leading = i * 256 / count;
    if (i == 0 || leading != (i - 1) * 256 / count)
      members.add(fmt::format("objects/{:02x}/", leading), true);
    const auto high = static_cast<std::uint32_t>(i * (std::uint64_t{1} << 32) / count);
    members.add(fmt::format("objects/{:02x}/{:08x}{:016x}{:016x}.png", leading, high,
                            members.random(), members.random()));
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> args(argv + 1, argv + argc);
  const std::vector<std::pair<std::string, std::function<void(Members&, std::uint64_t)>>> kinds = {
      {"imagenet", imagenet}, {"numbered", numbered}, {"linux", linux_tree}, {"sha1", sha1}};
  for (const auto& [name, write] : kinds) {
    if (args.size() < 2 || args[0] != name) continue;
    Members members(args.size() > 2 ? std::stoull(args[2]) : 1000);
    write(members, std::stoull(args[1]));
    members.finish();
    return 0;
  }
  fmt::print(stderr, "usage: bench_tar_stream imagenet|numbered|linux|sha1 COUNT [MEAN_SIZE]\n");
  return 2;
}
