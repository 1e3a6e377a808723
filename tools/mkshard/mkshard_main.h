#pragma once

#include <span>
#include <string>

#include "tools/common/io.h"

namespace shardfs {

/// The exit code where nothing was written.
inline constexpr int kFailed = 2;

/// Runs mkshard with `args` (without the program's name) and gives its exit code: 0 done; 1 done,
/// but files were skipped or changed; 2 failed; 128 + n stopped by signal n. One run at a time in a
/// process.
[[nodiscard]] int mkshard_main(std::span<const std::string> args, Io& io);

}  // namespace shardfs
