// What can be asked of a mount: ioctls on its root directory, so that they work wherever the mount
// is seen, in containers and private namespaces too.
#pragma once

#include <array>
#include <cstdint>

#include <sys/ioctl.h>

namespace shardfs {

/// Puts a label on this moment; the figures so far go with it.
struct MarkCommand {
  std::array<char, 256> label{};  ///< text, ended by NUL
};

/// Files that will be read, in this order. More than one command takes are sent by several.
struct WarmCommand {
  static constexpr std::uint32_t kReplace = 1;  ///< forget what was said before
  static constexpr std::uint32_t kAll = 2;      ///< the whole archive, in its own order
  static constexpr std::uint32_t kMore = 4;     ///< the list goes on in the next command

  std::uint32_t flags = 0;
  std::uint32_t size = 0;            ///< bytes of `names` in use
  std::uint32_t unknown = 0;         ///< answer: names that are no files of the mount
  std::array<char, 16'000> names{};  ///< paths from the mount's root, each ended by NUL
};

// An ioctl's number carries its argument's size, which FUSE passes through up to 16,383 bytes.
inline constexpr unsigned kMarkIoctl = _IOW('S', 0x51, MarkCommand);
inline constexpr unsigned kWarmIoctl = _IOWR('S', 0x52, WarmCommand);

}  // namespace shardfs
