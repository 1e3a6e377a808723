#include "tools/shardfs/mounts.h"

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <future>
#include <memory>
#include <sstream>
#include <string_view>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/ioctl.h>
#include <sys/xattr.h>

namespace shardfs {
namespace {

// A mount asks its cache server for figures, and takes it for dead after two seconds.
constexpr std::chrono::seconds kPatience{5};

bool is_octal(char c) { return c >= '0' && c <= '7'; }

/// /proc writes spaces, tabs, newlines and backslashes as \ooo.
std::string unescape(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && is_octal(text[i + 1])) {
      plain.push_back(static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                        (text[i + 3] - '0')));
      i += 3;
    } else {
      plain.push_back(text[i]);
    }
  }
  return plain;
}

uid_t user_of(const std::string& super_options) {
  constexpr std::string_view kUser = "user_id=";
  const std::size_t at = super_options.find(kUser);
  if (at == std::string::npos) return 0;
  return static_cast<uid_t>(std::strtoul(super_options.c_str() + at + kUser.size(), nullptr, 10));
}

/// One line of proc_pid_mountinfo(5).
MountPoint parse(const std::string& line) {
  std::istringstream words(line);
  std::string id, parent, device, root, directory, word;
  words >> id >> parent >> device >> root >> directory;
  while (words >> word && word != "-") {
  }
  std::string type, source, super_options;
  words >> type >> source >> super_options;
  return {unescape(directory), unescape(source), unescape(type), user_of(super_options)};
}

Result<std::string> resolved(const std::string& path) {
  const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr),
                                                         std::free);
  if (real == nullptr) return fail_errno(errno, path, "cannot be used");
  return std::string(real.get());
}

/// The parent's real path and the last component as it is.
Result<std::string> resolved_but_last(std::string path) {
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  const std::size_t slash = path.rfind('/');
  const std::string last = slash == std::string::npos ? path : path.substr(slash + 1);
  if (last.empty() || last == "." || last == "..")
    return fail_errno(ENOTCONN, path, "cannot be used");
  SHARDFS_TRY(
      std::string parent,
      resolved(slash == std::string::npos ? "." : path.substr(0, std::max<std::size_t>(slash, 1))));
  return parent == "/" ? parent + last : parent + "/" + last;
}

struct XattrAnswer {
  int err = 0;
  std::string value;
};

XattrAnswer get_xattr(const std::string& directory, const char* name) {
  XattrAnswer answer;
  answer.value.resize(64 * 1024);  // The kernel's limit.
  const ssize_t got = ::getxattr(directory.c_str(), name, answer.value.data(), answer.value.size());
  answer.err = got < 0 ? errno : 0;
  answer.value.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
  return answer;
}

/// get_xattr, or none in time: then the thread that waits is left to itself.
std::optional<XattrAnswer> get_xattr_soon(const std::string& directory, const char* name) {
  const auto promise = std::make_shared<std::promise<XattrAnswer>>();
  auto answer = promise->get_future();
  std::thread([promise, directory, name] {
    promise->set_value(get_xattr(directory, name));
  }).detach();
  if (answer.wait_for(kPatience) != std::future_status::ready) return std::nullopt;
  return answer.get();
}

}  // namespace

Result<std::vector<MountPoint>> mount_points() {
  std::ifstream file("/proc/self/mountinfo");
  if (!file) return fail_errno(errno, "/proc/self/mountinfo", "cannot read");
  std::vector<MountPoint> found;
  for (std::string line; std::getline(file, line);) found.push_back(parse(line));
  return found;
}

Result<std::optional<MountPoint>> mount_at(const std::string& directory) {
  SHARDFS_TRY(std::vector<MountPoint> all, mount_points());
  for (; !all.empty(); all.pop_back()) {
    if (all.back().directory == directory) return std::optional(std::move(all.back()));
  }
  return std::nullopt;
}

Result<std::string> absolute_path(const std::string& path) {
  if (path.empty()) return fail(ErrorKind::Invalid, "an empty path");
  auto real = resolved(path);
  if (real || real.error().sys_errno == ENOENT) return real;
  return resolved_but_last(path);
}

std::string archive_at(const std::string& path) {
  const auto absolute = absolute_path(path);
  const auto there = absolute ? mount_at(*absolute) : std::unexpected(absolute.error());
  return there && *there && (*there)->is_shardfs() ? (*there)->source : path;
}

Result<UniqueFd> open_root(const std::string& path) {
  UniqueFd root(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root) return fail_errno(errno, path, "cannot open");
  return root;
}

Result<void> send_command(const UniqueFd& root, const std::string& path, unsigned long number,
                          void* argument) {
  if (::ioctl(root.get(), number, argument) == 0) return {};
  if (errno == ENOTTY || errno == ENOSYS)
    return fail(ErrorKind::Unsupported,
                fmt::format("{}: no shardfs mount's root; try: findmnt -t fuse.shardfs", path));
  if (errno == EOPNOTSUPP)
    return fail(
        ErrorKind::Unsupported,
        fmt::format("{}: its archive is read in place, nothing is cached; try: shardfs mount "
                    "--tier disk --cache-dir DIR",
                    path));
  return fail_errno(errno, path, "the mount refused");
}

Result<nlohmann::ordered_json> read_report(const std::string& directory, const char* xattr) {
  const auto answer = get_xattr_soon(directory, xattr);
  if (!answer) return fail_errno(ETIMEDOUT, directory, "the mount does not answer");
  if (answer->err == ENODATA || answer->err == EOPNOTSUPP) {
    return fail(
        ErrorKind::Unsupported,
        fmt::format("{}: no shardfs mount's root; try: findmnt -t fuse.shardfs", directory));
  }
  if (answer->err != 0) return fail_errno(answer->err, directory, "cannot ask the mount");
  auto json = nlohmann::ordered_json::parse(answer->value, nullptr, false);
  if (!json.is_object())
    return fail(ErrorKind::Corrupt, directory + ": the mount's answer is no JSON");
  return json;
}

}  // namespace shardfs
