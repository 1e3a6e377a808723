#include "tools/mkshard/mkshard_main.h"

#include <new>
#include <ostream>
#include <system_error>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/resource.h>

#include "tools/common/interrupt.h"
#include "tools/common/json.h"
#include "tools/common/progress.h"
#include "tools/common/size.h"
#include "tools/common/text.h"
#include "tools/mkshard/index_main.h"
#include "tools/mkshard/options.h"
#include "tools/mkshard/pack.h"

namespace shardfs {
namespace {

constexpr int kDifferences = 1;

std::uint64_t peak_rss_bytes() {
  struct rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
}

void print_json(Io& io, const Options& options, const PackResult& result) {
  const ShardSummary& summary = result.summary;
  auto object = json_object(result.output, summary.id);
  object["output"] = result.output;
  object["container"] = name_of(summary.container);
  object["files"] = summary.files;
  object["bytes"] = summary.file_bytes;
  object["packed_bytes"] = summary.packed_bytes;
  object["seconds"] = result.seconds;
  object["peak_rss_bytes"] = peak_rss_bytes();
  object["threads"] = options.shard.threads;
  object["skipped"] = nlohmann::ordered_json::array();
  for (const Skipped& one : result.skipped) {
    object["skipped"].push_back({{"path", one.path}, {"errno", one.sys_errno}, {"text", one.text}});
  }
  object["digest"] = result.digest;
  write_json(io, object);
}

void print_line(Io& io, const PackResult& result) {
  const ShardSummary& summary = result.summary;
  io.out << printable(fmt::format("{}: {} files, {} in, {} packed ({}), id {}", result.output,
                                  summary.files, format_size(summary.file_bytes),
                                  format_size(summary.packed_bytes), name_of(summary.container),
                                  summary.id))
         << '\n'
         << std::flush;
}

void print_details(Io& io, const PackResult& result) {
  io.err << fmt::format("mkshard: {:.1f} s, index {}, peak memory {}, xxh3 {}\n", result.seconds,
                        format_size(result.summary.index_bytes), format_size(peak_rss_bytes()),
                        result.digest);
}

int report(Io& io, const Options& options, const PackResult& result) {
  if (options.json) {
    print_json(io, options, result);
  } else {
    print_line(io, result);
  }
  if (options.verbose) print_details(io, result);
  if (!io.out) {
    io.err << "mkshard: standard output: cannot write; " << printable(result.output)
           << " is complete\n";
    return kFailed;
  }
  if (result.skipped.empty()) return 0;
  io.err << fmt::format("mkshard: {} files were skipped or changed, see above\n",
                        result.skipped.size());
  return kDifferences;
}

int exit_code(const Error& error) {
  const bool stopped = error.kind == ErrorKind::Interrupted && Interrupt::signal() != 0;
  return stopped ? 128 + Interrupt::signal() : kFailed;
}

/// pack(), with a limit of threads or memory that it runs into as a failure like any other. The
/// temporary file is gone then.
Result<PackResult> pack_within_limits(const Options& options, Progress& progress) {
  try {
    return pack(options, progress);
  } catch (const std::bad_alloc&) {
    return fail(ErrorKind::Io, options.output +
                                   ": out of memory; try: --threads 1, or a higher limit (ulimit "
                                   "-v, or the job's)");
  } catch (const std::system_error& error) {
    return fail(ErrorKind::Io,
                fmt::format("{}: cannot start a thread: {}; try: --threads 1, or a higher limit "
                            "(ulimit -u, ulimit -v)",
                            options.output, error.code().message()));
  }
}

int run(Io& io, const Options& options) {
  const Interrupt interrupt;
  const auto show = options.quiet || options.no_progress ? Progress::Show::No : Progress::Show::Yes;
  Progress progress(io, "mkshard", show);
  const auto result = pack_within_limits(options, progress);
  progress.finish();
  if (result) return report(io, options, *result);
  io.err << "mkshard: " << printable(result.error().message) << '\n' << std::flush;
  return exit_code(result.error());
}

}  // namespace

int mkshard_main(std::span<const std::string> args, Io& io) {
  if (!args.empty() && args[0] == "index") return index_main(args.subspan(1), io);
  const auto options = parse_options(args);
  if (!options) {
    io.err << "mkshard: " << printable(options.error().message) << "; try: mkshard --help\n";
    return kFailed;
  }
  if (options->help || options->version) {
    io.out << (options->help ? help_text() : "mkshard " SHARDFS_VERSION "\n") << std::flush;
    return io.out ? 0 : kFailed;
  }
  return run(io, *options);
}

}  // namespace shardfs
