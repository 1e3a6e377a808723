#include "tools/mkshard/pack.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <utility>

#include <fmt/format.h>
#include <sys/stat.h>

#include "fs/dataset/dataset.h"
#include "tools/common/interrupt.h"
#include "tools/common/path_list.h"
#include "tools/common/size.h"
#include "tools/common/text.h"
#include "tools/mkshard/archive_source.h"
#include "tools/mkshard/container_choice.h"
#include "tools/mkshard/directory_source.h"
#include "tools/mkshard/output_file.h"
#include "tools/mkshard/walk.h"

namespace shardfs {
namespace {

bool is_directory(const std::string& path) {
  struct stat status = {};
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

void add_inode(std::vector<InodeKey>& to, const std::string& path) {
  struct stat status = {};
  if (::lstat(path.c_str(), &status) == 0) to.push_back({status.st_dev, status.st_ino});
}

/// The files that must not be packed because they are, or may become, the output.
std::vector<InodeKey> output_inodes(const Options& options, const OutputFile& output) {
  std::vector<InodeKey> inodes{output.inode()};
  if (options.container) {
    add_inode(inodes, options.output);
  } else if (options.force) {  // otherwise it cannot be one that exists
    add_inode(inodes, options.output + ".tar");
    add_inode(inodes, options.output + ".tar.zst");
  }
  return inodes;
}

Result<std::unique_ptr<MemberSource>> open_directory(const Options& options,
                                                     const OutputFile& output) {
  DirectorySourceOptions source;
  source.excludes = options.excludes;
  source.order = options.order.value_or(OrderByName{});
  source.ignore_failed_read = options.ignore_failed_read;
  source.left_out = output_inodes(options, output);
  source.threads = options.shard.threads;
  if (!options.files_from.empty()) {
    SHARDFS_TRY(source.files, read_path_list(options.files_from, options.null_separated));
  }
  if (const auto* listed = std::get_if<OrderListed>(&source.order)) {
    SHARDFS_TRY(source.order_list, read_path_list(listed->file, options.null_separated));
  }
  return open_directory_source(options.source, std::move(source));
}

Result<std::unique_ptr<MemberSource>> open_source(const Options& options,
                                                  const OutputFile& output) {
  if (options.source != "-" && is_directory(options.source)) return open_directory(options, output);
  if (options.order) {
    return fail(ErrorKind::Invalid, "--order is for a directory; an archive keeps its own order");
  }
  if (!options.files_from.empty()) {
    return fail(ErrorKind::Invalid, "--files-from is for a directory; try: --exclude");
  }
  return open_archive_source(options.source,
                             {options.excludes, options.ignore_failed_read, options.shard.threads});
}

/// One run of mkshard. The steps are in run().
class Packer {
 public:
  Packer(const Options& options, Progress& progress)
      : options_(options), progress_(progress), shard_(options.shard) {}

  Result<PackResult> run() {
    if (options_.container) {
      SHARDFS_CHECK(check_replaceable(options_.output, options_.force));
    }
    SHARDFS_TRY(OutputFile output, OutputFile::create(options_.output));
    SHARDFS_TRY(source_, open_source(options_, output));
    SHARDFS_TRY(Sample sample, settle_container());
    SHARDFS_TRY(writer_, ShardWriter::create(shard_, output));
    SHARDFS_CHECK(pack_all(std::move(sample)));
    SHARDFS_TRY(result_.summary, writer_->finish());
    SHARDFS_CHECK(output.sync());
    if (options_.verify) {
      if (auto good = verify(output.temporary_path()); !good) {
        return reads_back_wrong(std::move(good).error(), output.temporary_path());
      }
    }
    SHARDFS_CHECK(Interrupt::check());
    SHARDFS_CHECK(output.publish(result_.output, options_.force));
    result_.digest = output.digest();
    return std::move(result_);
  }

 private:
  /// Sets container and output name; gives the members that had to be looked at for it.
  Result<Sample> settle_container() {
    Sample sample;
    shard_.container = options_.container.value_or(Container::Tar);
    result_.output = options_.output;
    if (!options_.container) {
      SHARDFS_CHECK(choose(sample));
      result_.output += fmt::format(".{}", name_of(shard_.container));
      SHARDFS_CHECK(check_replaceable(result_.output, options_.force));
    }
    source_->prepare_for(shard_.container);
    return sample;
  }

  Result<void> choose(Sample& sample) {
    ContainerChoice choice{Container::Tar, "--align is for stored data"};
    if (shard_.align == 0) {
      SHARDFS_TRY(sample, take_sample(*source_));
      choice = choose_container(sample, shard_.level, shard_.threads);
    }
    shard_.container = choice.container;
    note(fmt::format("container {}: {}", name_of(choice.container), choice.reason));
    return {};
  }

  Result<void> pack_all(Sample sample) {
    for (Item& item : sample.items) SHARDFS_CHECK(take(std::exchange(item, Notice{})));
    while (true) {
      SHARDFS_CHECK(Interrupt::check());
      SHARDFS_TRY(auto item, source_->next());
      if (!item) break;
      SHARDFS_CHECK(take(std::move(*item)));
    }
    // A signal ends the walk of a directory early.
    return Interrupt::check();
  }

  Result<void> take(Item item) {
    return std::visit([this](auto&& one) { return add(std::forward<decltype(one)>(one)); },
                      std::move(item));
  }

  Result<void> add(WholeMember whole) {
    const Member& member = whole.member;
    count_file(member);
    advance(member.size);
    if (member.size > kSmallFile) {
      SHARDFS_CHECK(writer_->begin(member));
      return writer_->append(whole.payload.bytes);
    }
    if (!whole.prepared && member.size > 0) {
      whole.payload = Payload::prepare(std::move(whole.payload.bytes), shard_.container);
    }
    return writer_->add(member, std::move(whole.payload));
  }

  Result<void> add(const BegunMember& begun) {
    count_file(begun.member);
    return writer_->begin(begun.member);
  }

  Result<void> add(FileData data) {
    advance(data.bytes.size());
    return writer_->append(data.bytes);
  }

  Result<void> add(Skipped skipped) {
    progress_.message(
        printable(fmt::format("mkshard: warning: {}: {}", skipped.path, skipped.text)));
    result_.skipped.push_back(std::move(skipped));
    return {};
  }

  Result<void> add(const Notice& notice) {
    if (!notice.text.empty()) note(notice.text);
    return {};
  }

  void count_file(const Member& member) {
    if (member.is_regular() && !member.hard_link) ++state_.files;
  }

  void advance(std::uint64_t bytes) {
    state_.bytes += bytes;
    state_.fraction = source_->fraction();
    progress_.update(state_);
  }

  void note(const std::string& text) {
    if (!options_.quiet) progress_.message(printable("mkshard: " + text));
  }

  Result<void> verify(const std::string& path) {
    SHARDFS_TRY(const auto dataset, Dataset::open(path));
    std::atomic<std::uint64_t> done = 0;
    const auto total = static_cast<double>(dataset->archive().source().size());
    const auto step = [&](std::uint64_t bytes) {
      const std::uint64_t now = done += bytes;
      progress_.update({now, 0, static_cast<double>(now) / total});
      return Interrupt::signal() == 0;
    };
    SHARDFS_TRY(const VerifyReport report, dataset->archive().verify(shard_.threads, step));
    if (report.ok()) return {};
    const Damage& damage = report.bad.front();
    return fail(ErrorKind::Corrupt,
                fmt::format("{} (piece {}, byte {})", damage.path, damage.piece, damage.offset));
  }

  /// `error` in words that do not name the temporary file, which is gone when they are read.
  std::unexpected<Error> reads_back_wrong(Error error, const std::string& temporary) const {
    if (error.kind == ErrorKind::Interrupted) return std::unexpected(std::move(error));
    std::string text = error.message.substr(0, error.message.find("; try: "));
    if (text.starts_with(temporary + ": ")) text.erase(0, temporary.size() + 2);
    for (std::size_t at; (at = text.find(temporary)) != std::string::npos;) {
      text.replace(at, temporary.size(), result_.output);
    }
    error.message = fmt::format(
        "{}: what was written reads back wrong: {}; try: another disk for -o, and a memory test",
        result_.output, text);
    return std::unexpected(std::move(error));
  }

  const Options& options_;
  Progress& progress_;
  ShardOptions shard_;
  std::unique_ptr<MemberSource> source_;
  std::unique_ptr<ShardWriter> writer_;
  ProgressState state_;
  PackResult result_;
};

}  // namespace

const char* name_of(Container container) { return container == Container::Tar ? "tar" : "tar.zst"; }

Result<PackResult> pack(const Options& options, Progress& progress) {
  const auto start = std::chrono::steady_clock::now();
  auto result = Packer(options, progress).run();
  if (result) {
    result->seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  return result;
}

}  // namespace shardfs
