#include <algorithm>
#include <atomic>
#include <memory>
#include <ostream>
#include <string>
#include <thread>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "fs/dataset/dataset.h"
#include "tools/common/interrupt.h"
#include "tools/common/json.h"
#include "tools/common/progress.h"
#include "tools/common/size.h"
#include "tools/common/text.h"
#include "tools/shardfs/commands.h"
#include "tools/shardfs/mounts.h"

namespace shardfs {
namespace {

// More threads than this only get into each other's way on one archive.
constexpr unsigned kMaxThreads = 16;

Result<VerifyReport> check(const Dataset& dataset, const Common& common, Io& io) {
  Progress progress(io, "verify", common.quiet ? Progress::Show::No : Progress::Show::Yes);
  const auto size =
      static_cast<double>(std::max<std::uint64_t>(1, dataset.archive().source().size()));
  std::atomic<std::uint64_t> checked = 0;
  return dataset.archive().verify(
      std::clamp(std::thread::hardware_concurrency(), 1U, kMaxThreads), [&](std::uint64_t bytes) {
        const std::uint64_t now = checked += bytes;
        progress.update({.bytes = now, .files = 0, .fraction = static_cast<double>(now) / size});
        return Interrupt::signal() == 0;
      });
}

void print_text(const Dataset& dataset, const VerifyReport& found, bool quiet, Io& io) {
  for (const Damage& damage : found.bad) {
    io.out << fmt::format("{}: piece {}, byte {} of {}: not as packed\n", printable(damage.path),
                          damage.piece, damage.offset, dataset.path());
  }
  if (found.ok() && quiet) return;
  io.out << fmt::format("{}: {} checked, {}\n", dataset.path(), format_size(found.checked_bytes),
                        found.ok() ? "ok" : fmt::format("{} damaged places", found.bad.size()));
}

void print_json(const Dataset& dataset, const VerifyReport& found, Io& io) {
  nlohmann::ordered_json json = json_object(dataset.path(), dataset.archive().info().id);
  json["ok"] = found.ok();
  json["checked_bytes"] = found.checked_bytes;
  json["bad"] = nlohmann::ordered_json::array();
  for (const Damage& damage : found.bad) {
    json["bad"].push_back(
        {{"path", damage.path}, {"piece", damage.piece}, {"offset", damage.offset}});
  }
  write_json(io, json);
}

int verify(const std::string& archive, const Common& common, Io& io) {
  const auto dataset = Dataset::open(archive_at(archive));
  // A damaged index is damage found; a file that is no shard cannot be verified.
  if (!dataset) {
    return report(io, dataset.error(),
                  dataset.error().kind == ErrorKind::Corrupt ? kDifferences : kFatal);
  }
  tell_notes(io, **dataset);
  const Interrupt interrupt;
  const auto found = check(**dataset, common, io);
  if (!found) return report(io, found.error(), exit_code(found.error()));
  if (common.json) {
    print_json(**dataset, *found, io);
  } else {
    print_text(**dataset, *found, common.quiet, io);
  }
  return found->ok() ? kOk : kDifferences;
}

}  // namespace

Command verify_command(CLI::App& app) {
  auto archive = std::make_shared<std::string>();
  app.add_option("ARCHIVE", *archive, "A shard or another archive, or where it is mounted")
      ->required();
  return [archive](const Common& common, Io& io) { return verify(*archive, common, io); };
}

}  // namespace shardfs
