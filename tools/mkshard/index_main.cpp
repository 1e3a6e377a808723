#include "tools/mkshard/index_main.h"

#include <ostream>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <sys/stat.h>

#include "fs/archive/foreign/sidecar.h"
#include "fs/archive/open.h"
#include "tools/common/command_line.h"
#include "tools/common/progress.h"
#include "tools/common/text.h"
#include "tools/mkshard/mkshard_main.h"

namespace shardfs {
namespace {

constexpr const char* kHelp = R"(Usage: mkshard index ARCHIVE [-o FILE]

Scans an archive of another format once and keeps its index, so that later
mounts need not. A changed archive is noticed, and its index not used.

  -o FILE       instead of ARCHIVE.shardfs-index, where mounts look for it
  -q, --quiet   nothing on standard output
  -h, --help    this text
)";

struct IndexArguments {
  std::string archive, output;
  bool quiet = false, help = false;
};

Result<IndexArguments> parse(std::span<const std::string> args) {
  IndexArguments arguments;
  CLI::App app;
  app.set_help_flag();
  app.add_option("ARCHIVE", arguments.archive);
  app.add_option("-o", arguments.output);
  app.add_flag("-q,--quiet", arguments.quiet);
  app.add_flag("-h,--help", arguments.help);
  SHARDFS_CHECK(parse_command_line(app, args));
  if (!arguments.help && arguments.archive.empty())
    return fail(ErrorKind::Invalid, "which archive?");
  return arguments;
}

Result<std::string> run(const IndexArguments& arguments, Io& io) {
  SHARDFS_TRY(const auto file, FileSource::open(arguments.archive));
  struct stat st {};
  if (::fstat(file->fd(), &st) != 0)
    return fail_errno(errno, arguments.archive, "cannot be looked at");
  const std::string output =
      arguments.output.empty() ? sidecar_path(arguments.archive) : arguments.output;
  Progress progress(io, "mkshard", arguments.quiet ? Progress::Show::No : Progress::Show::Yes);
  SHARDFS_CHECK(make_index(*file,
                           {st.st_mtim.tv_sec, static_cast<std::uint32_t>(st.st_mtim.tv_nsec)},
                           output, bytes_of(progress)));
  return output;
}

}  // namespace

int index_main(std::span<const std::string> args, Io& io) {
  const auto arguments = parse(args);
  if (!arguments) {
    io.err << "mkshard index: " << printable(arguments.error().message)
           << "; try: mkshard index --help\n";
    return kFailed;
  }
  if (arguments->help) {
    io.out << kHelp << std::flush;
    return io.out ? 0 : kFailed;
  }
  const auto output = run(*arguments, io);
  if (!output) {
    io.err << "mkshard: " << printable(output.error().message) << '\n';
    return kFailed;
  }
  if (!arguments->quiet) io.out << printable(*output) << '\n' << std::flush;
  return io.out ? 0 : kFailed;
}

}  // namespace shardfs
