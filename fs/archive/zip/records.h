// The numbers that records of a zip archive begin with. Internal to fs/archive/zip.
#pragma once

#include <cstddef>
#include <cstdint>

namespace shardfs {

inline constexpr std::uint32_t kLocalMagic = 0x04034b50;
inline constexpr std::uint32_t kCentralMagic = 0x02014b50;
inline constexpr std::uint32_t kSignatureMagic = 0x05054b50;  ///< behind the last central header
inline constexpr std::uint32_t kRecordMagic = 0x06064b50;     ///< zip64's end of the directory
inline constexpr std::uint32_t kLocatorMagic = 0x07064b50;
inline constexpr std::uint32_t kEndMagic = 0x06054b50;
inline constexpr std::uint32_t kSpanningMagic =
    0x08074b50;  ///< begins the first of several volumes

/// Bytes of a local header, to which a name and extra fields are added.
inline constexpr std::size_t kLocalSize = 30;

}  // namespace shardfs
