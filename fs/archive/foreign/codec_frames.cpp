#include <algorithm>
#include <array>

#include "fs/archive/foreign/codec_methods.h"

namespace shardfs {

namespace {

constexpr std::size_t kFrameMagic = 4;

/// Whether `in`, as far as there is any, can be the start of a frame, or of one to skip.
bool can_be_frame(ByteSpan in, std::uint32_t magic) {
  constexpr std::uint32_t kSkippable = 0x184D2A50, kAnyOf16 = 0xF;
  const std::size_t size = std::min(in.size(), kFrameMagic);
  std::array<std::byte, kFrameMagic> start{};
  std::ranges::copy(in.first(size), start.begin());
  const auto number = load<std::uint32_t>(start.data());
  const std::uint32_t there = size == kFrameMagic ? UINT32_MAX : (1U << (8 * size)) - 1;
  return ((number ^ magic) & there) == 0 || ((number ^ kSkippable) & there & ~kAnyOf16) == 0;
}

}  // namespace

void FramesDecoder::rewind() {
  between_ = true;
  any_ = false;
  held_.clear();
}

/// Tells what is behind a frame; bytes that could be a part of a magic are taken off `in` and held.
FramesDecoder::Next FramesDecoder::look(ByteSpan& in, bool at_end) {
  if (held_.empty() && in.empty()) return at_end ? Next::Nothing : Next::Unknown;
  if (held_.empty() && in.size() >= kFrameMagic)
    return can_be_frame(in, magic_) ? Next::Frame : Next::Nothing;
  while (!in.empty() && held_.size() < kFrameMagic && can_be_frame(held_, magic_)) {
    held_.push_back(in.front());
    in = in.subspan(1);
  }
  if (!can_be_frame(held_, magic_)) return Next::Nothing;
  return held_.size() == kFrameMagic ? Next::Frame : Next::Unknown;
}

Result<Decoder::Progress> FramesDecoder::step(ByteSpan& in, std::span<std::byte>& out) {
  const bool at_end = in.empty();
  for (;;) {
    if (between_ && any_) {
      const Next next = look(in, at_end);
      if (next == Next::Nothing) return Progress::Done;
      if (next == Next::Unknown) return Progress::More;
    }
    if (between_ && decode_whole(in, out)) {
      any_ = true;
      continue;
    }
    const std::size_t in_before = in.size(), out_before = out.size();
    const bool from_held = !held_.empty();
    ByteSpan held = held_;
    SHARDFS_TRY(between_, call(from_held ? held : in, out));
    held_.clear();  // Both libraries take a magic whole.
    any_ |= between_;
    if (!from_held && in.size() == in_before && out.size() == out_before) return Progress::More;
  }
}

}  // namespace shardfs
