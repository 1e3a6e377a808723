// Headers of a tar that mkshard is given: what it makes of any of them must be a shard that holds.
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <variant>

#include <sys/mman.h>
#include <unistd.h>

#include "fs/archive/shard/reader.h"
#include "fs/archive/shard/writer.h"
#include "tests/fuzz/serve.h"
#include "tools/mkshard/archive_source.h"

namespace {

using namespace shardfs;

/// A sparse file of a few bytes can claim terabytes; packing those would prove nothing more.
constexpr std::uint64_t kMaxBytes = 8 * 1024 * 1024;

class MemorySink final : public ByteSink {
 public:
  Result<void> write(ByteSpan more) override {
    bytes.insert(bytes.end(), more.begin(), more.end());
    return {};
  }
  Bytes bytes;
};

/// A file in memory that can be opened by its name.
class Input {
 public:
  explicit Input(std::span<const std::uint8_t> bytes) : fd_(memfd_create("input", MFD_CLOEXEC)) {
    if (fd_ < 0 || ::write(fd_, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
      std::abort();
  }
  ~Input() { close(fd_); }
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;
  [[nodiscard]] std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

/// Hands one step of the source to the writer. False where packing ends.
bool take(Item& item, ShardWriter& writer, std::uint64_t& bytes) {
  if (auto* whole = std::get_if<WholeMember>(&item)) {
    bytes += whole->member.size;
    auto payload = whole->prepared
                       ? std::move(whole->payload)
                       : Payload::prepare(std::move(whole->payload.bytes), Container::Tar);
    return writer.add(whole->member, std::move(payload)).has_value();
  }
  if (const auto* begun = std::get_if<BegunMember>(&item)) {
    bytes += begun->member.size;
    return bytes <= kMaxBytes && writer.begin(begun->member).has_value();
  }
  if (const auto* data = std::get_if<FileData>(&item))
    return writer.append(data->bytes).has_value();
  return true;
}

/// Whether all of the source went into the writer.
bool pack(MemberSource& source, ShardWriter& writer) {
  source.prepare_for(Container::Tar);
  for (std::uint64_t bytes = 0; bytes <= kMaxBytes;) {
    auto item = source.next();
    if (!item) return false;
    if (!*item) return true;
    if (!take(**item, writer, bytes)) return false;
  }
  return false;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const Input input({data, size});
  auto source = open_archive_source(input.path(), {});
  if (!source) return 0;
  MemorySink sink;
  auto writer = ShardWriter::create({}, sink);
  if (!writer || !pack(**source, **writer) || !(*writer)->finish()) return 0;
  serve_sound(sink.bytes);
  return 0;
}
