#include "fs/base/unique_fd.h"

#include <cerrno>

#include <fcntl.h>
#include <fmt/format.h>

namespace shardfs {

Result<UniqueFd> reopen(int fd, int flags, const std::string& name) {
  UniqueFd again(::open(fmt::format("/proc/self/fd/{}", fd).c_str(), flags | O_CLOEXEC));
  if (!again) return fail_errno(errno, name, "cannot be opened once more");
  return again;
}

}  // namespace shardfs
