// Which bytes of a deflate window the data after it really refer to.
#pragma once

#include <array>
#include <cstddef>

#include <zlib.h>

#include "fs/base/bytes.h"
#include "fs/base/result.h"

namespace shardfs {

constexpr std::size_t kDeflateWindow = 32 * 1024;

/// Follows deflate data from a point on, and finds the bytes of the window before that point that
/// they use. The others need not be kept: of data that do not compress next to nothing is left.
///
/// What deflate data refer to does not depend on the window's bytes. So they are decoded with
/// windows whose bytes tell where they are: the low 8 bits of their number in one, its high bits in
/// another. A third, with the low bits inverted, tells such bytes from those that the data bring:
/// the latter are the same in the first and third. Only the first 32 KiB after the point can refer
/// to the window. One thread at a time.
class WindowUse {
 public:
  WindowUse() = default;
  ~WindowUse();
  WindowUse(const WindowUse&) = delete;
  WindowUse& operator=(const WindowUse&) = delete;

  /// False: no memory.
  [[nodiscard]] bool init();

  /// The data begin with the highest `bits` bits of `byte`, 0 to 7 of them, after a full window.
  void begin(unsigned bits, std::byte byte);
  /// Compressed bytes that come next; ignored where they cannot matter.
  void follow(ByteSpan in);
  /// Takes those bytes out of a full window that were not used: to zeros, and from its front.
  void reduce(Bytes& window) const;

 private:
  static constexpr std::size_t kTracers = 3;

  std::array<z_stream, kTracers> zlib_ = {};
  std::array<Bytes, kTracers> windows_, out_;
  std::size_t decoded_ = 0;  ///< bytes of each of out_
  bool sure_ = false;        ///< all went well since begin()
};

}  // namespace shardfs
