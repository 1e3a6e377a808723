#include "fs/archive/foreign/codec.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>

#include "fs/archive/foreign/codec_methods.h"

namespace shardfs {

std::unexpected<Error> damaged(std::string_view method, std::string_view what) {
  return fail(ErrorKind::Corrupt, fmt::format("damaged {} data: {}", method, what));
}

std::unexpected<Error> cut_short() { return fail(ErrorKind::Corrupt, "cut short"); }

std::unexpected<Error> no_memory() {
  return std::unexpected(Error{ErrorKind::Io, ENOMEM, "no memory to decode a block"});
}

Result<Decoder::Progress> StoredDecoder::step(ByteSpan& in, std::span<std::byte>& out) {
  if (in.empty()) return Progress::Done;
  const std::size_t size = std::min(in.size(), out.size());
  if (size > 0) std::memcpy(out.data(), in.data(), size);
  in = in.subspan(size);
  out = out.subspan(size);
  return Progress::More;
}

std::unique_ptr<MethodDecoder> new_decoder(Method method) {
  switch (method) {
    case Method::Stored:
      return std::make_unique<StoredDecoder>();
    case Method::Deflate:
    case Method::Zlib:
    case Method::Gzip:
      return std::make_unique<InflateDecoder>();
    case Method::Zstd:
      return std::make_unique<ZstdDecoder>();
    case Method::XzBlock:
    case Method::XzStream:
    case Method::ZipLzma:
    case Method::Lzma:
    case Method::Lzma2:
      return std::make_unique<LzmaDecoder>();
    case Method::Bzip2Block:
    case Method::Bzip2Stream:
      return std::make_unique<Bzip2Decoder>();
    case Method::Lz4:
      return std::make_unique<Lz4Decoder>();
    case Method::Lz4Blocks:
      return std::make_unique<Lz4BlocksDecoder>();
    case Method::Squashfs:
      return std::make_unique<SquashfsDecoder>();
    case Method::ZipMember:
      return std::make_unique<ZipDecoder>();
  }
  return nullptr;
}

namespace {

Result<Method> method_of(const Coder& coder) {
  switch (coder.codec) {
    case Codec::Stored:
    case Codec::Zero:
    case Codec::Slice:
    case Codec::Member:
      return fail(ErrorKind::Invalid, "a block that is not compressed cannot be decoded");
    case Codec::Deflate:
      return Method::Deflate;
    case Codec::Zlib:
      return Method::Zlib;
    case Codec::Gzip:
      return Method::Gzip;
    case Codec::Zstd:
      return Method::Zstd;
    case Codec::Xz:
      if (coder.parameter > LZMA_CHECK_ID_MAX ||
          !lzma_check_is_supported(lzma_check(coder.parameter)))
        return fail(ErrorKind::Unsupported,
                    fmt::format("xz check {} is not known", coder.parameter));
      return Method::XzBlock;
    case Codec::Bzip2:
      return Method::Bzip2Block;
    case Codec::Lz4:
      return Method::Lz4;
    case Codec::Lz4Blocks:
      return Method::Lz4Blocks;
    case Codec::Zip:
      return Method::ZipMember;
    case Codec::Squashfs:
      return squashfs_method(coder.parameter);
    case Codec::Lzma:
      return Method::Lzma;
    case Codec::Lzma2:
      return Method::Lzma2;
  }
  return fail(ErrorKind::Unsupported,
              fmt::format("codec {} is not known", static_cast<unsigned>(coder.codec)));
}

Result<Job> job_of(const Coder& coder, const BlockStart* start) {
  SHARDFS_TRY(const Method method, method_of(coder));
  if (start != nullptr && start->bits > 7)
    return fail(ErrorKind::Invalid,
                fmt::format("a block cannot begin at bit {} of a byte", start->bits));
  return Job{.method = method, .parameter = coder.parameter, .start = start};
}

struct Outcome {
  std::size_t size = 0;
  bool ended = false;  ///< by itself, so all of the block has come
};

/// Goes on after `out` is full as long as anything moves: a checksum may come then.
Result<Outcome> run(Decoder& decoder, ByteSpan& in, std::span<std::byte> out) {
  const std::size_t room = out.size();
  for (;;) {
    const std::size_t in_before = in.size(), out_before = out.size();
    SHARDFS_TRY(const auto progress, decoder.step(in, out));
    if (progress == Decoder::Progress::Done) return Outcome{room - out.size(), true};
    if (in.size() != in_before || out.size() != out_before) continue;
    if (out.empty()) return Outcome{room, false};
    return cut_short();
  }
}

}  // namespace

Result<std::unique_ptr<Decoder>> make_decoder(const Coder& coder, const BlockStart* start) {
  SHARDFS_TRY(const Job job, job_of(coder, start));
  auto decoder = new_decoder(job.method);
  SHARDFS_CHECK(decoder->begin(job));
  return decoder;
}

Result<std::size_t> decode_block(const Coder& coder, ByteSpan packed, std::span<std::byte> out,
                                 const BlockStart* start) {
  SHARDFS_TRY(Job job, job_of(coder, start));
  if (out.empty()) return 0;
  std::optional<LocalMember> zip;
  if (job.method == Method::ZipMember) {
    SHARDFS_TRY(zip, open_zip_member(packed));
    job = {.method = zip->method};
  }
  job.room = out.size();
  thread_local std::array<std::unique_ptr<MethodDecoder>, kMethods> kept;
  auto& decoder = kept[static_cast<std::size_t>(job.method)];
  if (!decoder) decoder = new_decoder(job.method);
  SHARDFS_CHECK(decoder->begin(job));
  const auto got = run(*decoder, packed, out);
  decoder->trim();
  if (!got) return std::unexpected(got.error());
  const bool whole = zip && (got->ended || zip->size == got->size);
  if (whole && !is_right(*zip, out.first(got->size), packed))
    return damaged("zip", "its checksum is another");
  return got->size;
}

}  // namespace shardfs
