#include "tools/common/command_line.h"

#include <algorithm>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "tools/common/size.h"

namespace shardfs {

Result<void> parse_command_line(CLI::App& app, std::span<const std::string> args) {
  // CLI11 wants them last first.
  std::vector<std::string> reversed(args.rbegin(), args.rend());
  try {
    app.parse(std::move(reversed));
  } catch (const CLI::ParseError& error) {
    std::string text = error.what();
    std::ranges::replace(text, '\n', ' ');
    return fail(ErrorKind::Invalid, std::move(text));
  }
  return {};
}

CLI::Option* add_size_option(CLI::App& app, const std::string& names, std::uint64_t& value,
                             std::uint64_t least, std::uint64_t most,
                             const std::string& environment) {
  const auto take = [&value, least, most](const std::string& text) {
    const auto size = parse_size(text);
    if (!size) throw CLI::ValidationError(size.error().message);
    if (*size < least || *size > most) {
      throw CLI::ValidationError(
          fmt::format("'{}': not from {} to {}", text, format_size(least), format_size(most)));
    }
    value = *size;
  };
  CLI::Option* option = app.add_option_function<std::string>(names, take)->type_name("SIZE");
  if (!environment.empty()) option->envname(environment);
  return option;
}

}  // namespace shardfs
