#include "fs/archive/compressed/pass.h"

#include <algorithm>
#include <cerrno>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "fs/archive/foreign/block_table.h"

namespace shardfs {

namespace {

/// Small members are joined until they are worth a row of the table: at 32 bytes a row it stays
/// below 1/2,000 of the decoded bytes. 64 KiB decode in 0.1 to 0.3 ms, as long as a request takes.
constexpr std::uint64_t kGroupEnough = 64 * 1024;
constexpr std::uint64_t kGroupMost = 1024 * 1024;

}  // namespace

std::unexpected<Error> ForwardInput::damaged_at(std::uint64_t position, std::string_view what,
                                                ErrorKind kind) const {
  return fail(kind, fmt::format("{}: {} at byte {} of the file", source_.name(), what, position));
}

std::unexpected<Error> ForwardInput::no_memory() const {
  return fail_errno(ENOMEM, source_.name(), "cannot be decoded");
}

/// Asks for what follows the bytes received, if there is any.
void ForwardInput::request() {
  requested_ = std::min(kStoreRequest, source_.size() - received_);
  if (requested_ == 0) return;
  Bytes& to = buffers_[1 - current_];
  if (to.size() < kMostWanted + requested_) to.resize(kMostWanted + requested_);
  const auto out = std::span(to).subspan(kMostWanted, requested_);
  // Deferred where no thread is to be had: then it is read when it is wanted.
  request_ = std::async(
      std::launch::async | std::launch::deferred,
      [&source = source_, offset = received_, out] { return source.read_at(offset, out); });
}

/// Makes the other buffer the current one; the rest of this goes in front of its bytes.
Result<void> ForwardInput::receive() {
  if (!request_.valid()) request();  // the first one, or the last one failed
  SHARDFS_CHECK(wait_for(request_, look_));
  const ByteSpan rest = ByteSpan(buffers_[current_]).subspan(begin_, end_ - begin_);
  current_ = 1 - current_;
  begin_ = kMostWanted - rest.size();
  std::ranges::copy(rest, buffers_[current_].begin() + static_cast<std::ptrdiff_t>(begin_));
  end_ = kMostWanted + requested_;
  received_ += requested_;
  request();
  return {};
}

Result<ByteSpan> ForwardInput::peek(std::size_t wanted) {
  while (end_ - begin_ < wanted && received_ < source_.size()) SHARDFS_CHECK(receive());
  return ByteSpan(buffers_[current_]).subspan(begin_, end_ - begin_);
}

Result<ByteSpan> ForwardInput::some(std::uint64_t most) {
  SHARDFS_TRY(const ByteSpan bytes, peek());
  if (bytes.empty()) return cut_short();
  const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), most));
  take(size);
  return bytes.first(size);
}

Result<void> ForwardInput::skip(std::uint64_t count) {
  while (count > 0) {
    SHARDFS_TRY(const ByteSpan bytes, some(count));
    count -= bytes.size();
  }
  return {};
}

Result<Bytes> ForwardInput::read(std::size_t count) {
  Bytes all;
  all.reserve(count);
  while (all.size() < count) {
    SHARDFS_TRY(const ByteSpan bytes, some(count - all.size()));
    append(all, bytes);
  }
  return all;
}

void BlockNotes::add(Coder coder, std::uint64_t offset, std::uint64_t packed, std::uint64_t decoded,
                     const BlockStart& start) {
  if (decoded == 0) return;
  layout_.add(coder, offset, packed, decoded);
  if (start.bits != 0 || !start.window.empty() || start.checksum != 0) layout_.set_start(start);
  const std::uint64_t packed_bytes = coder.codec == Codec::Bzip2 ? packed / 8 : packed;
  if (is_in_steps(packed_bytes, decoded)) bounded_ = false;
}

void BlockGroup::add(std::uint64_t offset, std::uint64_t packed, std::uint64_t decoded) {
  if (decoded == 0) return;  // what is empty is between two others, or left out
  const std::uint64_t end = offset + packed;
  // Packed bytes count too, for there may be any number of empty ones between.
  if (decoded_ + decoded > kGroupMost || end - offset_ > 2 * kGroupMost) flush();
  if (decoded_ == 0) offset_ = offset;
  end_ = end;
  decoded_ += decoded;
  if (decoded_ >= kGroupEnough) flush();
}

void BlockGroup::flush() {
  blocks_.add(coder_, offset_, end_ - offset_, decoded_);
  decoded_ = 0;
}

Result<ByteSpan> StreamPass::next() {
  if (failed_) return std::unexpected(*failed_);
  auto bytes = advance();
  if (!bytes) failed_ = bytes.error();
  return bytes;
}

}  // namespace shardfs
