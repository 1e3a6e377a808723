// Amounts of bytes, and of time, as people write and read them.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "fs/base/result.h"

namespace shardfs {

/// Bytes of "4096", "64K", "4M", "2G", "1T" (or k, m, g, t): the letters stand for powers of 1024.
/// Anything else, and what does not fit into 64 bits, is Invalid; the message repeats `text`.
[[nodiscard]] Result<std::uint64_t> parse_size(std::string_view text);

/// Milliseconds of "60s", "500ms", "60" (seconds). Anything else, no time at all, and what is more
/// than a day, is Invalid; the message repeats `text`.
[[nodiscard]] Result<std::chrono::milliseconds> parse_time(std::string_view text);

/// "512 B", "16.0 MiB", "1.2 TiB": one decimal, powers of 1024.
[[nodiscard]] std::string format_size(std::uint64_t bytes);

}  // namespace shardfs
