// File names in messages.
#pragma once

#include <string>
#include <string_view>

namespace shardfs {

/// `text` with control characters and bytes that are not UTF-8 written as \n, \t or \ooo, so that
/// no name can break a line or drive a terminal. Doing it twice changes nothing.
[[nodiscard]] std::string printable(std::string_view text);

}  // namespace shardfs
