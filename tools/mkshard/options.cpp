#include "tools/mkshard/options.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <sched.h>

#include "tools/common/command_line.h"

namespace shardfs {
namespace {

constexpr unsigned kMostThreads = 256;

/// What CLI11 fills in and finish() turns into Options.
struct Raw {
  std::uint64_t frame_size = ShardOptions().frame_size;
  std::uint64_t align = 0;
  std::string order;
  std::string tar_mtime = "s";
  std::vector<std::string> more;  ///< what stands behind SOURCE
};

/// Names of what other tools pack. An archive of ours by such a name would mislead whoever sees it.
constexpr std::array<std::string_view, 12> kOtherSuffixes = {".zip",      ".7z",   ".tgz", ".gz",
                                                             ".bz2",      ".xz",   ".lz4", ".zst",
                                                             ".squashfs", ".sqfs", ".iso", ".cpio"};

void add_format_options(CLI::App& app, Options& options, Raw& raw) {
  app.add_option("--level", options.shard.level)
      ->envname("SHARDFS_LEVEL")
      ->check(CLI::Range(1, 22));
  add_size_option(app, "--frame-size", raw.frame_size, 4096, 16 << 20, "SHARDFS_FRAME_SIZE");
  add_size_option(app, "--align", raw.align, 0, kMaxAlign, "SHARDFS_ALIGN");
  app.add_option("-j,--threads", options.shard.threads)
      ->envname("SHARDFS_THREADS")
      ->check(CLI::Range(1u, kMostThreads));
  app.add_option("--tar-mtime", raw.tar_mtime)->check(CLI::IsMember({"s", "ns"}));
}

void add_selection_options(CLI::App& app, Options& options, Raw& raw) {
  app.add_option("--order", raw.order);
  app.add_option("--exclude", options.excludes)->allow_extra_args(false)->take_all();
  app.add_option("--files-from", options.files_from);
  app.add_flag("-0,--null", options.null_separated);
}

void add_flags(CLI::App& app, Options& options) {
  app.add_flag("--ignore-failed-read", options.ignore_failed_read);
  app.add_flag("--force", options.force);
  app.add_flag("--verify", options.verify);
  app.add_flag("--no-progress", options.no_progress);
  app.add_flag("--json", options.json);
  app.add_flag("-q,--quiet", options.quiet);
  app.add_flag("-v,--verbose", options.verbose);
  app.add_flag("--help,-h", options.help);
  app.add_flag("--version", options.version);
}

Result<Order> parse_order(const std::string& text) {
  constexpr std::string_view kShuffle = "shuffle:";
  if (text == "name") return OrderByName{};
  if (text == "shuffle")
    return fail(ErrorKind::Invalid, "--order shuffle: the seed is missing, as in shuffle:1");
  if (!text.starts_with(kShuffle)) return OrderListed{text};
  OrderShuffled shuffled;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data() + kShuffle.size(), end, shuffled.seed);
  if (error == std::errc() && rest == end) return shuffled;
  return fail(ErrorKind::Invalid, fmt::format("--order {}: the seed is not a number", text));
}

Result<void> check_output(Options& options, const Raw& raw) {
  if (options.source.empty()) return fail(ErrorKind::Invalid, "SOURCE is missing");
  if (!raw.more.empty()) {
    return fail(ErrorKind::Invalid,
                fmt::format("{}: there is one SOURCE, and -o names OUT", raw.more[0]));
  }
  if (options.output.empty()) return fail(ErrorKind::Invalid, "-o OUT is missing");
  if (options.output == "-" || options.output.ends_with('/')) {
    return fail(ErrorKind::Invalid, fmt::format("-o {}: OUT must name a file", options.output));
  }
  if (options.output.ends_with(".tar")) options.container = Container::Tar;
  if (options.output.ends_with(".tar.zst")) options.container = Container::TarZst;
  const auto ends_so = [&](std::string_view suffix) { return options.output.ends_with(suffix); };
  if (!options.container && std::ranges::any_of(kOtherSuffixes, ends_so)) {
    return fail(ErrorKind::Invalid,
                fmt::format("-o {}: OUT is a .tar or a .tar.zst", options.output));
  }
  return {};
}

Result<void> check_combination(const Options& options) {
  if (options.shard.align != 0 && options.container == Container::TarZst) {
    return fail(ErrorKind::Invalid, "--align is for stored data; try: -o OUT.tar");
  }
  const bool has_list = !options.files_from.empty() ||
                        (options.order && std::holds_alternative<OrderListed>(*options.order));
  if (options.null_separated && !has_list) {
    return fail(ErrorKind::Invalid, "-0 is about --files-from F or --order FILE, none is given");
  }
  return {};
}

Result<void> finish(Options& options, const Raw& raw) {
  options.shard.frame_size = static_cast<std::uint32_t>(raw.frame_size);
  options.shard.align = static_cast<std::uint32_t>(raw.align);
  options.shard.tar_mtime_ns = raw.tar_mtime == "ns";
  if (raw.align != 0 && (raw.align < 512 || !std::has_single_bit(raw.align))) {
    return fail(ErrorKind::Invalid, "--align must be a power of two from 512 to 512K");
  }
  if (!raw.order.empty()) {
    SHARDFS_TRY(options.order, parse_order(raw.order));
  }
  SHARDFS_CHECK(check_output(options, raw));
  return check_combination(options);
}

}  // namespace

Result<Options> parse_options(std::span<const std::string> args) {
  CLI::App app;
  Options options;
  Raw raw;
  options.shard.threads = default_threads();
  app.set_help_flag();
  app.add_option("SOURCE", options.source);
  app.add_option("MORE", raw.more);
  app.add_option("-o,--output", options.output);
  add_format_options(app, options, raw);
  add_selection_options(app, options, raw);
  add_flags(app, options);
  SHARDFS_CHECK(parse_command_line(app, args));
  if (options.help || options.version) return options;
  SHARDFS_CHECK(finish(options, raw));
  return options;
}

unsigned default_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return std::clamp(static_cast<unsigned>(CPU_COUNT(&set)), 1u, 16u);
}

std::string help_text() {
  return R"(usage: mkshard SOURCE -o OUT[.tar|.tar.zst] [OPTION]...

Packs SOURCE into one archive that 'shardfs mount' serves and any tar reads.
SOURCE is a directory, an archive (tar, zip, 7z, ... compressed or not), or '-',
an archive on standard input. OUT without a suffix gets one: .tar.zst where the
first 16 MiB of data shrink by a tenth or more, otherwise .tar.

  --level N             zstd level, 1 to 22 (3)
  --frame-size SIZE     tar bytes in a compressed frame, 4K to 16M (64K)
  --align SIZE          .tar: data of files of 64K and more at multiples of SIZE
  -j, --threads N       threads that read and compress (the CPUs, at most 16)
  --tar-mtime s|ns      ns: nanoseconds in tar headers too, not only the index
  --order ORDER         of a directory's files: name, shuffle:SEED, or a file
                        that lists paths; the rest follows by name (name)
  --exclude GLOB        leave out what fits, whole path or any part behind a /,
                        and all below it; '*' fits '/' too; may be repeated
  --files-from FILE     pack only these paths of the directory SOURCE and all
                        below them; '-' is standard input
  -0, --null            paths in such lists end in NUL, not in a newline
  --ignore-failed-read  leave out files that cannot be read, list them, exit 1
  --force               replace OUT
  --verify              read the result back and check it before it is named
  --no-progress         no progress on standard error
  --json                print the result as one JSON object
  -q, --quiet           nothing on standard error but problems
  -v, --verbose         more about what was done
  -h, --help            this text; --version prints the version

mkshard index ARCHIVE keeps the index of an archive that stays as it is.

Sizes: K M G T = 1024^n. SHARDFS_LEVEL, SHARDFS_FRAME_SIZE, SHARDFS_ALIGN and
SHARDFS_THREADS set defaults. Exit: 0 done; 1 done, but files were skipped or
changed; 2 failed, nothing is left behind unless the message says that OUT is
complete; 128+n stopped by signal n.
)";
}

}  // namespace shardfs
