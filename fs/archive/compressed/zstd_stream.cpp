#include <memory>
#include <string>

#include <fmt/format.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "fs/archive/compressed/frame_stream.h"
#include "fs/archive/compressed/streams.h"
#include "fs/archive/zstd_contexts.h"

namespace shardfs {

namespace {

/// The most that `zstd --long` writes; a frame's window is allocated, and used as it decodes.
constexpr int kMaxWindowLog = 31;

class ZstdStream final : public FrameStream {
 public:
  ZstdStream(const ByteSource& source, LayoutBuilder& layout, ZstdDecoderContext decoder)
      : FrameStream(source, layout, Codec::Zstd, kZstdMagic), decoder_(std::move(decoder)) {}
  [[nodiscard]] std::string name() const override { return "zst"; }

 protected:
  [[nodiscard]] Result<Step> step(ByteSpan in, std::span<std::byte> out) override;

 private:
  [[nodiscard]] std::unexpected<Error> error(std::size_t code) const;

  ZstdDecoderContext decoder_;
};

std::unexpected<Error> ZstdStream::error(std::size_t code) const {
  switch (ZSTD_getErrorCode(code)) {
    case ZSTD_error_memory_allocation:
      return input_.no_memory();
    case ZSTD_error_frameParameter_windowTooLarge:
      return input_.damaged("a zstd window over 2 GiB is not supported; the frame is",
                            ErrorKind::Unsupported);
    case ZSTD_error_dictionary_wrong:
      return input_.damaged("a zstd dictionary is not supported; the frame is",
                            ErrorKind::Unsupported);
    default:
      return input_.damaged(fmt::format("damaged zstd data ({})", ZSTD_getErrorName(code)));
  }
}

Result<FrameStream::Step> ZstdStream::step(ByteSpan in, std::span<std::byte> out) {
  ZSTD_inBuffer from = {in.data(), in.size(), 0};
  ZSTD_outBuffer to = {out.data(), out.size(), 0};
  const std::size_t left = ZSTD_decompressStream(decoder_.get(), &to, &from);
  if (ZSTD_isError(left)) return error(left);
  return Step{from.pos, to.pos, left == 0};
}

}  // namespace

StreamResult zstd_stream(const ByteSource& source, LayoutBuilder& layout) {
  ZstdDecoderContext decoder(ZSTD_createDCtx());
  if (!decoder ||
      ZSTD_isError(ZSTD_DCtx_setParameter(decoder.get(), ZSTD_d_windowLogMax, kMaxWindowLog)))
    return ForwardInput(source).no_memory();
  return std::make_unique<ZstdStream>(source, layout, std::move(decoder));
}

}  // namespace shardfs
