#include "fs/archive/shard/frame_compressor.h"

#include <algorithm>
#include <new>
#include <system_error>

#include <fmt/format.h>

#include "fs/archive/zstd_contexts.h"
#include "fs/base/checksum.h"

namespace shardfs {

namespace {

constexpr std::uint64_t kUnderWay = 32 * 1024 * 1024;

/// A new context for each frame: zstd's match finders may keep traces of the frame before, and the
/// same input must give the same bytes whichever thread compresses it. Costs 2 to 4 % of the time.
/// Returns what went wrong; empty if nothing did.
std::string compress(ByteSpan decoded, int level, Bytes& to) {
  const ZstdEncoderContext context(ZSTD_createCCtx());
  if (!context) return "out of memory";
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_compressionLevel, level);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_contentSizeFlag, 1);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_checksumFlag, 1);
  to.resize(ZSTD_compressBound(decoded.size()));
  const std::size_t size =
      ZSTD_compress2(context.get(), to.data(), to.size(), decoded.data(), decoded.size());
  if (ZSTD_isError(size)) return ZSTD_getErrorName(size);
  to.resize(size);
  return {};
}

}  // namespace

struct FrameCompressor::Job {
  Bytes decoded;
  std::uint64_t decoded_size = 0;
  Bytes frame;
  std::uint64_t checksum = 0;
  std::string error;
  bool done = false;  ///< guarded by mutex_; the rest belongs to one thread at a time

  void run(int level) {
    try {
      error = compress(decoded, level, frame);
    } catch (const std::bad_alloc&) {
      error = "out of memory";
    }
    checksum = checksum64(frame);
    decoded = Bytes();
  }
};

FrameCompressor::FrameCompressor(int level, unsigned threads, std::uint64_t frame_size, Output& out)
    : level_(level), limit_(std::max(kUnderWay, 2 * threads * frame_size)), out_(out) {
  if (threads < 2) return;
  try {
    for (unsigned i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
  } catch (const std::system_error&) {
    // A limit of threads is reached: as many as there are will do.
  }
}

FrameCompressor::~FrameCompressor() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  work_to_do_.notify_all();
}

void FrameCompressor::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    work_to_do_.wait(lock, [this] { return stop_ || !waiting_.empty(); });
    if (stop_) return;
    const std::shared_ptr<Job> job = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    job->run(level_);
    lock.lock();
    job->done = true;
    job_done_.notify_one();
  }
}

Result<void> FrameCompressor::add(Bytes decoded) {
  auto job = std::make_shared<Job>();
  job->decoded_size = decoded.size();
  job->decoded = std::move(decoded);
  if (threads_.empty()) {
    job->run(level_);
    return write(*job);
  }
  under_way_ += job->decoded_size;
  jobs_.push_back(job);
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(job));
  }
  work_to_do_.notify_one();
  while (!jobs_.empty() && (under_way_ > limit_ || first_is_done())) SHARDFS_CHECK(write_first());
  return {};
}

bool FrameCompressor::first_is_done() {
  const std::lock_guard lock(mutex_);
  return jobs_.front()->done;
}

Result<void> FrameCompressor::write_first() {
  const std::shared_ptr<Job> job = std::move(jobs_.front());
  jobs_.pop_front();
  under_way_ -= job->decoded_size;
  {
    std::unique_lock lock(mutex_);
    job_done_.wait(lock, [&] { return job->done; });
  }
  return write(*job);
}

Result<void> FrameCompressor::write(const Job& job) {
  if (!job.error.empty()) return fail(ErrorKind::Io, fmt::format("cannot compress: {}", job.error));
  frames_.offsets.push_back(out_.position());
  frames_.positions.push_back(position_);
  frames_.checksums.push_back(job.checksum);
  position_ += job.decoded_size;
  return out_.write(job.frame);
}

Result<void> FrameCompressor::finish() {
  while (!jobs_.empty()) SHARDFS_CHECK(write_first());
  frames_.offsets.push_back(out_.position());
  frames_.positions.push_back(position_);
  return {};
}

}  // namespace shardfs
