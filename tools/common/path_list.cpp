#include "tools/common/path_list.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>

#include <fcntl.h>
#include <unistd.h>

#include "fs/base/unique_fd.h"
#include "tools/common/interrupt.h"

namespace shardfs {

namespace {

/// By read(2): a stream takes an error on standard input for its end.
Result<std::string> read_whole(int fd, const std::string& name) {
  std::string text;
  std::array<char, 64 * 1024> part;
  while (true) {
    const ssize_t got = ::read(fd, part.data(), part.size());
    if (got == 0) return text;
    if (got > 0) text.append(part.data(), static_cast<std::size_t>(got));
    if (got > 0) continue;
    if (errno != EINTR) return fail_errno(errno, name, "cannot read the list");
    SHARDFS_CHECK(Interrupt::check());
  }
}

}  // namespace

Result<std::vector<std::string>> read_path_list(const std::string& file, bool null_separated) {
  const bool is_standard = file == "-";
  const std::string name = is_standard ? "standard input" : file;
  const UniqueFd opened(is_standard ? -1 : ::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!is_standard && !opened) return fail_errno(errno, name, "cannot open the list");
  SHARDFS_TRY(const std::string text, read_whole(is_standard ? STDIN_FILENO : opened.get(), name));
  if (!null_separated && text.contains('\0'))
    return fail(ErrorKind::Invalid, name + ": paths that end in NUL; try: -0");
  std::vector<std::string> paths;
  for (std::string_view rest = text; !rest.empty();) {
    const std::size_t end = std::min(rest.find(null_separated ? '\0' : '\n'), rest.size());
    if (end > 0) paths.emplace_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  if (paths.empty()) return fail(ErrorKind::Invalid, name + ": a list without a path");
  return paths;
}

}  // namespace shardfs
