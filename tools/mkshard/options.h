// mkshard's command line.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "fs/archive/shard/writer.h"
#include "fs/base/result.h"

namespace shardfs {

/// The archive order of a directory's members; a stream keeps its own.
struct OrderByName {};
struct OrderShuffled {
  std::uint64_t seed = 0;
};
struct OrderListed {
  std::string file;
};
using Order = std::variant<OrderByName, OrderShuffled, OrderListed>;

struct Options {
  std::string source;  ///< a directory, an archive, or "-"
  std::string output;  ///< as given; without a suffix if `container` is open
  std::optional<Container> container;
  ShardOptions shard;  ///< its container is set when that is known
  std::optional<Order> order;
  std::vector<std::string> excludes;
  std::string files_from;  ///< empty: everything
  bool null_separated = false;
  bool ignore_failed_read = false;
  bool force = false;
  bool verify = false;
  bool no_progress = false;
  bool json = false;
  bool quiet = false;
  bool verbose = false;
  bool help = false;
  bool version = false;
};

/// Invalid for a usage error. With --help or --version nothing else is checked.
[[nodiscard]] Result<Options> parse_options(std::span<const std::string> args);

/// What --help prints.
[[nodiscard]] std::string help_text();

/// CPUs this process may run on, at most 16.
[[nodiscard]] unsigned default_threads();

}  // namespace shardfs
