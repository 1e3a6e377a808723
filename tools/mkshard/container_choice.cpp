#include "tools/mkshard/container_choice.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>

#include <fmt/format.h>
#include <zstd.h>

#include "tools/common/interrupt.h"
#include "tools/common/size.h"
#include "tools/mkshard/ordered_pool.h"

namespace shardfs {
namespace {

constexpr std::uint64_t kSampleBytes = 16 * 1024 * 1024;
constexpr std::size_t kSampleMembers =
    65'536;  // Bounds memory where files are tiny or have no data.
constexpr std::size_t kFrame = 64 * 1024;

ByteSpan data_of(const Item& item) {
  if (const auto* whole = std::get_if<WholeMember>(&item)) return whole->payload.bytes;
  if (const auto* data = std::get_if<FileData>(&item)) return data->bytes;
  return {};
}

Bytes concatenate(const Sample& sample) {
  Bytes all;
  all.reserve(std::min(sample.bytes, kSampleBytes));
  for (const Item& item : sample.items) {
    const ByteSpan data = data_of(item);
    const std::size_t count = std::min<std::size_t>(data.size(), kSampleBytes - all.size());
    all.insert(all.end(), data.begin(), data.begin() + static_cast<long>(count));
  }
  return all;
}

/// Compressed size of the frames of `all` that `next` hands to this thread.
std::uint64_t compress_some(ByteSpan all, int level, std::atomic<std::size_t>& next) {
  const std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context(ZSTD_createCCtx(),
                                                                     ZSTD_freeCCtx);
  if (!context) throw std::bad_alloc();
  Bytes out(ZSTD_compressBound(kFrame));
  std::uint64_t total = 0;
  for (std::size_t at; (at = next.fetch_add(kFrame)) < all.size();) {
    const std::size_t size = std::min(kFrame, all.size() - at);
    const std::size_t packed =
        ZSTD_compressCCtx(context.get(), out.data(), out.size(), all.data() + at, size, level);
    total += ZSTD_isError(packed) != 0 ? size : packed;
  }
  return total;
}

std::uint64_t compressed_size(ByteSpan all, int level, unsigned threads) {
  std::atomic<std::size_t> next = 0;
  OrderedPool<std::uint64_t> pool(threads, threads, 0);
  for (unsigned i = 0; i < threads; ++i) {
    pool.submit([&](auto&) { return compress_some(all, level, next); });
  }
  pool.close();
  std::uint64_t total = 0;
  while (const auto some = pool.pop()) total += *some;
  return total;
}

}  // namespace

Result<Sample> take_sample(MemberSource& source) {
  Sample sample;
  while (sample.bytes < kSampleBytes && sample.items.size() < kSampleMembers) {
    SHARDFS_CHECK(Interrupt::check());
    SHARDFS_TRY(auto item, source.next());
    sample.whole = !item;
    if (!item) break;
    sample.bytes += data_of(*item).size();
    sample.items.push_back(std::move(*item));
  }
  return sample;
}

ContainerChoice choose_container(const Sample& sample, int level, unsigned threads) {
  const Bytes all = concatenate(sample);
  if (all.empty()) return {Container::Tar, "there are no data that could shrink"};
  const std::uint64_t packed = compressed_size(all, level, threads);
  const bool shrinks = packed * 10 <= all.size() * 9;
  const bool everything = sample.whole && sample.bytes <= kSampleBytes;
  // Rounded towards "does not shrink", so that 90 % is never printed for what was refused.
  const std::uint64_t percent = (packed * 100 + all.size() - 1) / all.size();
  return {shrinks ? Container::TarZst : Container::Tar,
          fmt::format("the {}{} of data shrink to {} %", everything ? "" : "first ",
                      format_size(all.size()), percent)};
}

}  // namespace shardfs
