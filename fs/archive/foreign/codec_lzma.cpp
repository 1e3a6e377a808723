#include <algorithm>
#include <array>
#include <memory>

#include <fmt/format.h>

#include "fs/archive/foreign/codec_methods.h"

namespace shardfs {

namespace {

/// Largest dictionary, and something for the rest.
constexpr std::uint64_t kMemoryLimit = (std::uint64_t{1} << kWindowLog) + (1 << 20);

constexpr std::size_t kZipHead = 4;  ///< version and size of the properties
constexpr std::size_t kProperties = 5;

/// A chain of filters, whose options the library allocates.
struct Filters {
  std::array<lzma_filter, LZMA_FILTERS_MAX + 1> list;
  Filters() { list.fill({.id = LZMA_VLI_UNKNOWN, .options = nullptr}); }
  Filters(const Filters&) = delete;
  Filters& operator=(const Filters&) = delete;
  ~Filters() { lzma_filters_free(list.data(), nullptr); }
};

Result<void> check(lzma_ret code) {
  switch (code) {
    case LZMA_OK:
    case LZMA_STREAM_END:
    case LZMA_BUF_ERROR:  // Nothing moved; that is the caller's to see.
      return {};
    case LZMA_MEM_ERROR:
      return no_memory();
    case LZMA_MEMLIMIT_ERROR:
      return fail(ErrorKind::Unsupported, "lzma data with too large a dictionary");
    case LZMA_OPTIONS_ERROR:
      return fail(ErrorKind::Unsupported, "lzma data with unknown options");
    case LZMA_FORMAT_ERROR:
      return damaged("lzma", "no xz stream");
    default:
      return damaged("lzma", "an impossible value or a wrong checksum");
  }
}

/// Bytes of an .xz block's header, from its first byte; a multiple of 4.
std::size_t header_size(std::byte first) {
  return lzma_block_header_size_decode(std::to_integer<std::uint32_t>(first));
}

/// Bytes of a zip member's LZMA header; once kZipHead are there.
std::size_t zip_header_size(ByteSpan head) {
  return kZipHead + load<std::uint16_t>(head.data() + 2);
}

}  // namespace

Result<void> LzmaDecoder::begin(const Job& job) {
  job_ = job;
  job_.start = nullptr;
  header_.clear();
  running_ = false;
  return {};
}

void LzmaDecoder::trim() {
  memory_ = std::max(memory_, lzma_memusage(&stream_));
  if (memory_ <= kKeptMemory) return;
  lzma_end(&stream_);
  stream_ = LZMA_STREAM_INIT;
  memory_ = 0;
}

/// Collects what start() needs; false: more must come.
bool LzmaDecoder::take_header(ByteSpan& in) {
  if (job_.method != Method::XzBlock && job_.method != Method::ZipLzma) return true;
  const std::size_t fixed = job_.method == Method::XzBlock ? 1 : kZipHead;
  const auto fill_to = [&](std::size_t size) {
    const std::size_t part = std::min(in.size(), size - std::min(size, header_.size()));
    append(header_, in.first(part));
    in = in.subspan(part);
    return header_.size() >= size;
  };
  if (!fill_to(fixed)) return false;
  return fill_to(job_.method == Method::XzBlock ? header_size(header_[0])
                                                : zip_header_size(header_));
}

Result<void> LzmaDecoder::start() {
  if (job_.method == Method::XzBlock) return start_block();
  if (job_.method == Method::XzStream) return check(lzma_stream_decoder(&stream_, kMemoryLimit, 0));
  return job_.method == Method::ZipLzma ? start_zip() : start_plain();
}

/// Cuts the dictionary down to what is decoded, if that is known (nothing can be farther back), and
/// sees that it is not too large. For a filter may look ahead, by a few bytes, there is some more.
Result<void> LzmaDecoder::fit(lzma_filter* filters) {
  constexpr std::uint64_t kUnit = 64 * 1024;  // Like sizes share a dictionary that is kept.
  for (lzma_filter* f = filters; f->id != LZMA_VLI_UNKNOWN && job_.room; ++f) {
    if (f->id != LZMA_FILTER_LZMA1 && f->id != LZMA_FILTER_LZMA2) continue;
    auto& size = static_cast<lzma_options_lzma*>(f->options)->dict_size;
    const std::uint64_t enough = round_up(*job_.room + kUnit / 2, kUnit);
    size = static_cast<std::uint32_t>(std::min<std::uint64_t>(size, enough));
  }
  memory_ = lzma_raw_decoder_memusage(filters);
  if (memory_ == UINT64_MAX) return check(LZMA_OPTIONS_ERROR);
  if (!job_.room && memory_ > kMemoryLimit) return check(LZMA_MEMLIMIT_ERROR);
  return {};
}

Result<void> LzmaDecoder::start_block() {
  if (header_[0] == std::byte{}) return damaged("lzma", "an index where a block should be");
  Filters filters;
  block_ = {};
  block_.version = 1;
  block_.header_size = static_cast<std::uint32_t>(header_.size());
  block_.check = lzma_check(job_.parameter);
  block_.filters = filters.list.data();
  const auto* header = reinterpret_cast<const std::uint8_t*>(header_.data());
  SHARDFS_CHECK(check(lzma_block_header_decode(&block_, nullptr, header)));
  SHARDFS_CHECK(fit(filters.list.data()));
  const lzma_ret code = lzma_block_decoder(&stream_, &block_);
  block_.filters = nullptr;  // Read by the call above only.
  return check(code);
}

Result<void> LzmaDecoder::start_zip() {
  if (header_.size() != kZipHead + kProperties) return damaged("lzma", "no LZMA properties");
  return start_raw(LZMA_FILTER_LZMA1, ByteSpan(header_).subspan(kZipHead));
}

/// With the largest dictionary: who made the block knows that it takes no more.
Result<void> LzmaDecoder::start_plain() {
  if (job_.method == Method::Lzma2) {
    constexpr std::byte kSize{2 * (kWindowLog - 12)};  // of the dictionary, as LZMA2 writes it
    return start_raw(LZMA_FILTER_LZMA2, std::array{kSize});
  }
  Bytes properties{std::byte(job_.parameter)};
  append(properties, std::uint32_t{1} << kWindowLog);
  return start_raw(LZMA_FILTER_LZMA1, properties);
}

Result<void> LzmaDecoder::start_raw(lzma_vli method, ByteSpan properties) {
  Filters filters;
  filters.list[0].id = method;
  SHARDFS_CHECK(check(lzma_properties_decode(
      filters.list.data(), nullptr, reinterpret_cast<const std::uint8_t*>(properties.data()),
      properties.size())));
  SHARDFS_CHECK(fit(filters.list.data()));
  return check(lzma_raw_decoder(&stream_, filters.list.data()));
}

Result<Decoder::Progress> LzmaDecoder::step(ByteSpan& in, std::span<std::byte>& out) {
  if (!running_) {
    if (!take_header(in)) return Progress::More;
    SHARDFS_CHECK(start());
    running_ = true;
  }
  stream_.next_in = reinterpret_cast<const std::uint8_t*>(in.data());
  stream_.avail_in = in.size();
  stream_.next_out = reinterpret_cast<std::uint8_t*>(out.data());
  stream_.avail_out = out.size();
  const lzma_ret code = lzma_code(&stream_, LZMA_RUN);
  in = in.subspan(in.size() - stream_.avail_in);
  out = out.subspan(out.size() - stream_.avail_out);
  SHARDFS_CHECK(check(code));
  return code == LZMA_STREAM_END ? Progress::Done : Progress::More;
}

}  // namespace shardfs
