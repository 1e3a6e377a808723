// tar headers as a shard holds them (FORMAT.md, section 2).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "fs/base/bytes.h"
#include "fs/tree/builder.h"

namespace shardfs {

inline constexpr std::uint64_t kTarBlock = 512;
inline constexpr std::uint64_t kTarRecord = 10240;  ///< closing zeros fill up to a multiple of this
inline constexpr std::uint64_t kAlignFrom = 64 * 1024;  ///< smaller files' data are not aligned

/// All headers of one member: pax header, long name, long link as needed, then the ustar header.
/// `position` is where they will stand in the tar stream; only `align` (0: none) makes the bytes
/// depend on it.
[[nodiscard]] Bytes encode_headers(const Member& member, bool mtime_ns, std::uint32_t align,
                                   std::uint64_t position);

/// A pax global header with one record "LENGTH comment=VALUE\n", padded to a block.
[[nodiscard]] Bytes encode_global_header(std::string_view value);

/// Bytes of the record "LENGTH comment=VALUE\n" around a value of so many bytes.
[[nodiscard]] std::uint64_t comment_record_size(std::uint64_t value_size);

/// If `block` starts a global header as encode_global_header makes them: size of its record in
/// bytes. `bytes` must hold at least one block; the record follows the first block.
[[nodiscard]] std::optional<std::uint64_t> global_header_record_size(ByteSpan bytes);

/// VALUE of the record "LENGTH comment=VALUE\n"; none if it is anything else.
[[nodiscard]] std::optional<std::string_view> comment_value(ByteSpan record);

}  // namespace shardfs
