// CRC-32, as zip, gzip and 7z have it.
#pragma once

#include <cstdint>

#include <zlib.h>

#include "fs/base/bytes.h"

namespace shardfs {

/// By zlib. Any thread.
[[nodiscard]] inline std::uint32_t crc32_of(ByteSpan bytes) {
  return static_cast<std::uint32_t>(
      ::crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

}  // namespace shardfs
