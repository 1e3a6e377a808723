#include <memory>
#include <ostream>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "fs/dataset/dataset.h"
#include "fs/mount/report.h"
#include "tools/common/size.h"
#include "tools/common/text.h"
#include "tools/shardfs/commands.h"
#include "tools/shardfs/mounts.h"

namespace shardfs {
namespace {

void print_text(const Dataset& dataset, Io& io) {
  const ArchiveInfo info = dataset.archive().info();
  io.out << fmt::format("archive    {}\n", printable(dataset.path()))
         << fmt::format("id         {}\n", info.id)
         << fmt::format("format     {}\n", info.format == info.container
                                               ? info.format
                                               : info.format + ", " + info.container)
         << fmt::format("holds      {} files in {} directories, {}\n", info.files, info.directories,
                        format_size(info.file_bytes))
         << fmt::format("packed     {}, index {}\n", format_size(info.packed_bytes),
                        format_size(info.index_bytes))
         << fmt::format("access     {}\n", info.access)
         << fmt::format("checksum   {}\n", info.checksum);
  if (!info.remedy.empty())
    io.out << fmt::format("            a file of it takes long to decode; try: {}\n", info.remedy);
}

}  // namespace

Command info_command(CLI::App& app) {
  auto archive = std::make_shared<std::string>();
  app.add_option("ARCHIVE", *archive, "A shard or another archive, or where it is mounted")
      ->required();
  return [archive](const Common& common, Io& io) {
    const auto dataset = Dataset::open(archive_at(*archive));
    if (!dataset) return report(io, dataset.error(), kFatal);
    tell_notes(io, **dataset);
    if (common.json) {
      io.out << archive_info_json(**dataset) << '\n';
    } else {
      print_text(**dataset, io);
    }
    return int{kOk};
  };
}

}  // namespace shardfs
