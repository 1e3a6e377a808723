#include "fs/archive/compressed/window_use.h"

#include <algorithm>
#include <vector>

namespace shardfs {

WindowUse::~WindowUse() {
  for (z_stream& zlib : zlib_) inflateEnd(&zlib);
}

bool WindowUse::init() {
  constexpr std::size_t kLow = 0, kHigh = 1, kInverted = 2;
  for (std::size_t t = 0; t < kTracers; ++t) {
    if (inflateInit2(&zlib_[t], -MAX_WBITS) != Z_OK) return false;
    windows_[t].resize(kDeflateWindow);
    out_[t].resize(kDeflateWindow);
  }
  for (std::size_t i = 0; i < kDeflateWindow; ++i) {
    windows_[kLow][i] = std::byte(i);
    windows_[kHigh][i] = std::byte(i >> 8);
    windows_[kInverted][i] = ~std::byte(i);
  }
  return true;
}

void WindowUse::begin(unsigned bits, std::byte byte) {
  decoded_ = 0;
  sure_ = true;
  for (std::size_t t = 0; t < kTracers; ++t) {
    inflateReset(&zlib_[t]);
    const int value = std::to_integer<int>(byte) >> (8 - bits);
    if (bits > 0 && inflatePrime(&zlib_[t], static_cast<int>(bits), value) != Z_OK) sure_ = false;
    if (inflateSetDictionary(&zlib_[t], reinterpret_cast<const Bytef*>(windows_[t].data()),
                             kDeflateWindow) != Z_OK)
      sure_ = false;
  }
}

void WindowUse::follow(ByteSpan in) {
  if (!sure_ || decoded_ == kDeflateWindow) return;
  std::array<std::size_t, kTracers> decoded = {};
  for (std::size_t t = 0; t < kTracers; ++t) {
    z_stream& zlib = zlib_[t];
    zlib.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(in.data()));
    zlib.avail_in = static_cast<uInt>(in.size());
    zlib.next_out = reinterpret_cast<Bytef*>(out_[t].data() + decoded_);
    zlib.avail_out = static_cast<uInt>(kDeflateWindow - decoded_);
    const int answer = inflate(&zlib, Z_NO_FLUSH);
    if (answer != Z_OK && answer != Z_STREAM_END && answer != Z_BUF_ERROR) sure_ = false;
    decoded[t] = kDeflateWindow - zlib.avail_out;
  }
  if (decoded[1] != decoded[0] || decoded[2] != decoded[0]) sure_ = false;
  decoded_ = decoded[0];
}

void WindowUse::reduce(Bytes& window) const {
  if (!sure_ || window.size() != kDeflateWindow) return;
  std::vector<bool> used(kDeflateWindow);
  std::size_t first = kDeflateWindow;
  for (std::size_t j = 0; j < decoded_; ++j) {
    const auto low = std::to_integer<std::size_t>(out_[0][j]);
    if (out_[0][j] == out_[2][j]) continue;
    const std::size_t i = low | std::to_integer<std::size_t>(out_[1][j]) << 8;
    used[i % kDeflateWindow] = true;
    first = std::min(first, i);
  }
  for (std::size_t i = first; i < kDeflateWindow; ++i)
    if (!used[i]) window[i] = std::byte{0};
  window.erase(window.begin(), window.begin() + static_cast<std::ptrdiff_t>(first));
}

}  // namespace shardfs
