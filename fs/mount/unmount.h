// Takes a FUSE mount away.
#pragma once

#include <cstdint>
#include <string>

#include "fs/base/result.h"
#include "fs/base/unique_fd.h"

namespace shardfs {

enum class Unmount : bool { IfUnused, Lazily };

/// Unmounts what is mounted at `directory` (absolute): with umount2() where the caller may,
/// otherwise by fusermount3. Lazily: the directory is free at once, open files go on until they are
/// closed. Io with EBUSY if files are in use, Unsupported if the caller may not or fusermount3 is
/// missing.
[[nodiscard]] Result<void> unmount(const std::string& directory, Unmount how);

/// Device number of what is mounted at `directory`, 0 if that cannot be told. Asks no daemon, which
/// may hang or be dead.
[[nodiscard]] std::uint64_t device_at(const std::string& directory);

/// Unmounts `directory` lazily if `device` is still mounted there, and not what somebody else has
/// mounted since. Says nothing: for a process that ends.
void unmount_if_there(const std::string& directory, std::uint64_t device);

/// Forks a process that waits for the returned descriptor to be closed everywhere, as happens when
/// this process ends in whatever way, and then calls unmount_if_there(). (fusermount3's own
/// auto_unmount works neither for plain users before libfuse 3.15 nor where opening the root needs
/// no daemon.) REQUIRES: no other thread runs.
[[nodiscard]] Result<UniqueFd> unmount_at_end(const std::string& directory, std::uint64_t device);

/// From now on unmount_if_there() is done also where this process ends by a signal of its own
/// making, such as SIGABRT for want of memory. SIGKILL leaves no time for it. Once a process.
void unmount_if_crashing(const std::string& directory, std::uint64_t device);

}  // namespace shardfs
