#include <memory>
#include <string>

#include <fmt/format.h>
#include <lz4frame.h>

#include "fs/archive/compressed/frame_stream.h"
#include "fs/archive/compressed/streams.h"

namespace shardfs {

namespace {

struct FreeLz4 {
  void operator()(LZ4F_dctx* decoder) const { LZ4F_freeDecompressionContext(decoder); }
};
using Lz4Context = std::unique_ptr<LZ4F_dctx, FreeLz4>;

class Lz4Stream final : public FrameStream {
 public:
  Lz4Stream(const ByteSource& source, LayoutBuilder& layout, Lz4Context decoder)
      : FrameStream(source, layout, Codec::Lz4, kLz4Magic), decoder_(std::move(decoder)) {}
  [[nodiscard]] std::string name() const override { return "lz4"; }

 protected:
  [[nodiscard]] Result<Step> step(ByteSpan in, std::span<std::byte> out) override {
    Step did{in.size(), out.size(), false};
    const std::size_t left =
        LZ4F_decompress(decoder_.get(), out.data(), &did.given, in.data(), &did.taken, nullptr);
    if (LZ4F_isError(left))
      return input_.damaged(fmt::format("damaged lz4 data ({})", LZ4F_getErrorName(left)));
    did.done = left == 0;
    return did;
  }

 private:
  Lz4Context decoder_;
};

}  // namespace

StreamResult lz4_stream(const ByteSource& source, LayoutBuilder& layout) {
  LZ4F_dctx* decoder = nullptr;
  if (LZ4F_isError(LZ4F_createDecompressionContext(&decoder, LZ4F_VERSION)))
    return ForwardInput(source).no_memory();
  return std::make_unique<Lz4Stream>(source, layout, Lz4Context(decoder));
}

}  // namespace shardfs
