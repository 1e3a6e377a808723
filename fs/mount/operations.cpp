#include "fs/mount/operations.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <fuse_lowlevel.h>
#include <spdlog/spdlog.h>
#include <sys/statvfs.h>

#include "fs/mount/commands.h"
#include "fs/mount/list_ahead.h"
#include "fs/mount/pusher.h"
#include "fs/mount/report.h"
#include "fs/mount/served.h"
#include "fs/mount/slow_pool.h"

namespace shardfs {
namespace {

// Nothing ever changes, so the kernel may keep what it was told for ever; libfuse and the kernel
// cut this down to the largest number they have.
constexpr double kForever = std::numeric_limits<double>::max();
// But while an archive is scanned a later member may take the place of an earlier one. Seconds.
constexpr double kWhileScanned = 1;

double timeout(const Scene& scene) { return scene.is_whole() ? kForever : kWhileScanned; }

// The kernel's default of 12 would let 12 stalled readaheads keep all others waiting.
constexpr unsigned kMaxBackground = 256;

// What is used of what the kernel offers. Not AUTO_INVAL_DATA: it would have the kernel ask for
// attributes again and drop pages. Not READDIRPLUS_AUTO: it would use READDIR after the first
// request.
constexpr unsigned kWanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS |
                             FUSE_CAP_ASYNC_DIO | FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_IOCTL_DIR;

constexpr int kWriteRefused = EROFS;

Served& served_by(fuse_req_t request) { return *static_cast<Served*>(fuse_req_userdata(request)); }

/// Counts the request and gives what it is to be answered from.
Served& begin(fuse_req_t request, Op op) {
  Served& served = served_by(request);
  served.counters.count(op);
  return served;
}

// Failures of the archive are logged; a name that is not there is an ordinary answer.
int note_failure(Served& served, const Scene& scene, Entry entry, const Error& error) {
  if (error.kind != ErrorKind::NotFound && error.kind != ErrorKind::Invalid) {
    served.errors.record(scene.tree().path(entry).value_or(""), error);
  }
  return error.to_errno();
}

void reply_failure(fuse_req_t request, const Scene& scene, Entry entry, const Error& error) {
  // Seen while the archive was scanned, and replaced by a later member.
  if (entry == StableNumbers::kNoEntry) return void(fuse_reply_err(request, ESTALE));
  fuse_reply_err(request, note_failure(served_by(request), scene, entry, error));
}

/// Why a request fails that has to do with all of an archive, of which not all can be read.
std::unexpected<Error> not_all() {
  return fail(ErrorKind::Io, "not all of the archive can be read");
}

/// What a request is answered from, with the entry that it is about.
struct Subject {
  Subject(fuse_req_t of, fuse_ino_t inode)
      : request(of), sight(served_by(of).scenes.now()), entry(sight->view.entry(inode)) {}

  [[nodiscard]] const Scene& scene() const { return *sight; }
  [[nodiscard]] const Tree& tree() const { return sight->tree(); }

  /// Has `again` answer the request when more is known; replies the error if nothing more will be,
  /// or if this is an entry that has been replaced.
  template <typename Again>
  void fail_or_wait(const Error& error, Again again,
                    Scenes::Until until = Scenes::Until::Next) const {
    const bool is_replaced = entry == StableNumbers::kNoEntry;
    if (sight->is_last() || is_replaced) return reply_failure(request, *sight, entry, error);
    served_by(request).scenes.wait(request, sight, until, std::move(again));
  }
  /// The same for what takes all of the archive.
  template <typename Again>
  void wait_for_all(Again again) const {
    fail_or_wait(not_all().error(), std::move(again), Scenes::Until::Last);
  }

  fuse_req_t request;
  Sight sight;
  Entry entry;
};

// --------------------------------------------------------------------------- names, attributes

/// What LOOKUP and READDIRPLUS say of an entry.
Result<fuse_entry_param> describe(const Scene& scene, Entry entry) {
  SHARDFS_TRY(const Attributes attributes, scene.tree().attributes(entry));
  fuse_entry_param told = {};
  told.attr = scene.view.stat(attributes);
  told.ino = told.attr.st_ino;
  told.attr_timeout = told.entry_timeout = timeout(scene);
  return told;
}

Result<fuse_entry_param> find(Served& served, const Subject& directory, std::string_view name) {
  const Scene& scene = directory.scene();
  SHARDFS_TRY(const Entry entry, scene.tree().lookup(directory.entry, name));
  auto told = describe(scene, entry);
  if (told && scene.is_whole()) served.pusher->told(scene.view.entry(told->ino));
  return told;
}

void find_and_reply(fuse_req_t request, fuse_ino_t parent, const char* name) {
  Served& served = served_by(request);
  const Subject directory(request, parent);
  const auto told = find(served, directory, name);
  if (told) {
    fuse_reply_entry(request, &*told);
    if (directory.scene().is_whole()) served.list_ahead->asked(directory.entry);
  } else if (told.error().kind == ErrorKind::NotFound && directory.scene().is_whole()) {
    fuse_entry_param nothing = {};  // Inode 0: the kernel may remember that the name is not there.
    nothing.entry_timeout = kForever;
    fuse_reply_entry(request, &nothing);
  } else if (told.error().kind == ErrorKind::NotFound && directory.scene().is_last()) {
    fuse_reply_err(request, EIO);  // It may be in what could not be read.
  } else {
    directory.fail_or_wait(told.error(), [=, name = std::string(name)] {
      find_and_reply(request, parent, name.c_str());
    });
  }
}

void lookup(fuse_req_t request, fuse_ino_t parent, const char* name) {
  begin(request, Op::Lookup);
  if (std::strlen(name) > NAME_MAX) return void(fuse_reply_err(request, ENAMETOOLONG));
  find_and_reply(request, parent, name);
}

void note_forgotten(Served& served, fuse_ino_t inode) {
  const Sight sight = served.scenes.now();
  if (sight->is_whole()) served.pusher->forgotten(sight->view.entry(inode));
}

void forget(fuse_req_t request, fuse_ino_t inode, std::uint64_t) {
  note_forgotten(begin(request, Op::Forget), inode);
  fuse_reply_none(request);
}

void forget_multi(fuse_req_t request, std::size_t count, fuse_forget_data* forgets) {
  Served& served = begin(request, Op::Forget);
  for (const fuse_forget_data& each : std::span(forgets, count)) note_forgotten(served, each.ino);
  fuse_reply_none(request);
}

void reply_attributes(fuse_req_t request, fuse_ino_t inode) {
  const Subject asked(request, inode);
  const auto attributes = asked.tree().attributes(asked.entry);
  if (!attributes)
    return asked.fail_or_wait(attributes.error(), [=] { reply_attributes(request, inode); });
  const struct stat shown = asked.scene().view.stat(*attributes);
  fuse_reply_attr(request, &shown, timeout(asked.scene()));
}

void getattr(fuse_req_t request, fuse_ino_t inode, fuse_file_info*) {
  begin(request, Op::Getattr);
  reply_attributes(request, inode);
}

void reply_link(fuse_req_t request, fuse_ino_t inode) {
  const Subject asked(request, inode);
  const auto link = asked.tree().link(asked.entry);
  if (!link) return asked.fail_or_wait(link.error(), [=] { reply_link(request, inode); });
  fuse_reply_readlink(request, std::string(*link).c_str());
}

void readlink(fuse_req_t request, fuse_ino_t inode) {
  begin(request, Op::Readlink);
  reply_link(request, inode);
}

void statfs(fuse_req_t request, fuse_ino_t) {
  const ArchiveInfo info = begin(request, Op::Statfs).scenes.now()->archive->info();
  struct statvfs totals = {};
  totals.f_bsize = totals.f_frsize = 4096;
  totals.f_blocks = (info.file_bytes + 4095) / 4096;
  totals.f_files = info.entries;
  totals.f_namemax = 255;
  fuse_reply_statfs(request, &totals);
}

// ---------------------------------------------------------------------------------- directories

// Offsets in a directory: 1 stands behind ".", 2 behind "..", n + 3 behind child n.
constexpr std::uint64_t kDots = 2;

/// Fills the reply to one READDIR or READDIRPLUS.
class Listing {
 public:
  Listing(fuse_req_t request, const Scene& scene, bool plus, std::span<char> room)
      : request_(request), served_(served_by(request)), scene_(scene), plus_(plus), room_(room) {}

  /// Everything from `offset` on that fits. An error only if it comes before anything else: what
  /// was listed has to be delivered, the next request will meet the error again.
  [[nodiscard]] Result<std::span<const char>> fill(Entry directory, std::uint64_t offset) {
    tells_all_ = plus_ && served_.list_ahead->tells_all(directory, offset);
    const auto done = list(directory, offset);
    if (!done && used_ == 0) return std::unexpected(done.error());
    return room_.first(used_);
  }

 private:
  Result<void> list(Entry directory, std::uint64_t offset) {
    if (offset < 1 && !dot(".", directory, 1)) return {};
    if (offset < 2 && !dot("..", parent(directory), 2)) return {};
    std::uint64_t child = offset < kDots ? 0 : offset - kDots;
    SHARDFS_TRY(const Tree::Range range, scene_.tree().child_range(directory));
    if (child >= range.count) return {};
    Result<void> failed;
    SHARDFS_CHECK(scene_.tree().children(directory, child, [&](Entry entry, std::string_view name) {
      ++child;
      const auto added = add(entry, name, static_cast<off_t>(child + kDots));
      if (!added) failed = std::unexpected(added.error());
      return added.value_or(false);
    }));
    return failed;
  }

  Entry parent(Entry directory) const {
    return directory == scene_.view.root() ? directory : scene_.tree().parent(directory);
  }

  bool dot(const char* name, Entry entry, off_t next) {
    fuse_entry_param self = {};  // Inode 0: the kernel is not to take this as a lookup.
    self.attr.st_ino = scene_.view.inode(entry);
    self.attr.st_mode = S_IFDIR;
    return append(name, self, next);
  }

  /// False if there is no room for it.
  Result<bool> add(Entry entry, std::string_view name, off_t next) {
    SHARDFS_TRY(fuse_entry_param told, describe(scene_, entry));
    if (tells_all_) {
      served_.pusher->listed(scene_.view.entry(told.ino));
    } else {
      told.ino = 0;  // The kernel takes the name and the type alone.
    }
    if (name.size() > NAME_MAX) return fail(ErrorKind::Corrupt, "a name of over 255 bytes");
    char terminated[NAME_MAX + 1];
    *std::ranges::copy(name, terminated).out = '\0';
    return append(terminated, told, next);
  }

  bool append(const char* name, const fuse_entry_param& entry, off_t next) {
    const auto rest = room_.subspan(used_);
    const std::size_t needed =
        plus_ ? fuse_add_direntry_plus(request_, rest.data(), rest.size(), name, &entry, next)
              : fuse_add_direntry(request_, rest.data(), rest.size(), name, &entry.attr, next);
    if (needed > rest.size()) return false;
    used_ += needed;
    return true;
  }

  fuse_req_t request_;
  Served& served_;
  const Scene& scene_;
  bool plus_;
  bool tells_all_ = true;
  std::span<char> room_;
  std::size_t used_ = 0;
};

/// Memory of this thread for one reply, at least `size` bytes, page-aligned; kept, so that a
/// request costs no allocation.
std::span<std::byte> reply_buffer(std::size_t size) {
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  thread_local std::unique_ptr<std::byte, Free> buffer;
  thread_local std::size_t held = 0;
  if (held < size) {
    held = round_up(size, 4096);
    buffer.reset(static_cast<std::byte*>(std::aligned_alloc(4096, held)));
    if (buffer == nullptr) held = 0;
  }
  return {buffer.get(), std::min(held, size)};
}

/// A directory is listed once all of it is known.
void list(fuse_req_t request, fuse_ino_t inode, std::size_t size, off_t offset, bool plus) {
  const Subject directory(request, inode);
  if (!directory.scene().is_whole()) {
    return directory.wait_for_all([=] { list(request, inode, size, offset, plus); });
  }
  const auto memory = reply_buffer(size);
  const std::span room(reinterpret_cast<char*>(memory.data()), memory.size());
  const auto filled = Listing(request, directory.scene(), plus, room)
                          .fill(directory.entry, static_cast<std::uint64_t>(offset));
  if (!filled) return reply_failure(request, directory.scene(), directory.entry, filled.error());
  fuse_reply_buf(request, filled->data(), filled->size());
}

void readdir(fuse_req_t request, fuse_ino_t inode, std::size_t size, off_t offset,
             fuse_file_info*) {
  begin(request, Op::Readdir);
  list(request, inode, size, offset, false);
}

void readdirplus(fuse_req_t request, fuse_ino_t inode, std::size_t size, off_t offset,
                 fuse_file_info*) {
  begin(request, Op::Readdirplus);
  list(request, inode, size, offset, true);
}

// ---------------------------------------------------------------------------------- data

/// One READ that is being answered.
struct Reading {
  fuse_req_t request;
  fuse_ino_t inode;
  std::uint64_t offset;
  std::size_t size;
  bool first;  ///< of this file, as far as is known
  std::chrono::steady_clock::time_point since = std::chrono::steady_clock::now();
};

/// Answers from what is at hand, or, if it may wait, from wherever the bytes are. False if that
/// would have to wait.
bool answer(const Reading& reading, Wait wait) {
  Served& served = served_by(reading.request);
  const auto buffer = reply_buffer(reading.size);
  if (buffer.size() < reading.size) return fuse_reply_err(reading.request, ENOMEM), true;
  std::shared_ptr<const DecodedBlock> decoded;
  const Subject file(reading.request, reading.inode);
  const Archive& archive = *file.scene().archive;
  const auto got = wait == Wait::No ? archive.try_read(file.entry, reading.offset, buffer, &decoded)
                                    : archive.read(file.entry, reading.offset, buffer, &decoded);
  if (!got && got.error().kind == ErrorKind::WouldWait) return false;
  // What has not been decoded yet looks damaged.
  if (!got && !file.scene().is_last() && got.error().kind == ErrorKind::Corrupt) {
    file.fail_or_wait(got.error(), [reading] { answer(reading, Wait::Yes); });
    return true;
  }
  served.counters.count_read(got.value_or(0), std::chrono::steady_clock::now() - reading.since);
  if (!got) return reply_failure(reading.request, file.scene(), file.entry, got.error()), true;
  fuse_reply_buf(reading.request, reinterpret_cast<const char*>(buffer.data()), *got);
  if (file.scene().is_whole()) served.pusher->offer(file.entry, reading.first, std::move(decoded));
  return true;
}

// Threads that take requests never wait for shared storage, or some stalled readers would keep all
// others waiting.
void read(fuse_req_t request, fuse_ino_t inode, std::size_t size, off_t offset, fuse_file_info*) {
  Served& served = begin(request, Op::Read);
  const Subject file(request, inode);
  const bool first = !file.scene().is_whole() || served.pusher->asked(file.entry);
  const Reading reading{request, inode, static_cast<std::uint64_t>(offset), size, first};
  if (answer(reading, Wait::No)) return;
  served.slow->run([reading] { answer(reading, Wait::Yes); });
}

/// The next offset from `offset` on that is data (or a hole) in a file of `size` bytes; none behind
/// the last data.
std::optional<std::uint64_t> seek(const std::vector<Hole>& holes, std::uint64_t size,
                                  std::uint64_t offset, bool to_data) {
  if (offset >= size) return std::nullopt;
  for (const Hole& hole : holes) {
    if (hole.offset + hole.length <= offset) continue;
    const bool inside = hole.offset <= offset;
    if (!to_data) return inside ? offset : hole.offset;
    if (!inside) return offset;
    offset = hole.offset + hole.length;
  }
  if (!to_data) return size;  // There is a hole behind every file.
  return offset < size ? std::optional(offset) : std::nullopt;
}

void reply_offset(fuse_req_t request, fuse_ino_t inode, off_t offset, int whence) {
  const Subject file(request, inode);
  const auto again = [=] { reply_offset(request, inode, offset, whence); };
  const auto attributes = file.tree().attributes(file.entry);
  if (!attributes) return file.fail_or_wait(attributes.error(), again);
  const auto holes = file.tree().holes(file.entry);
  if (!holes) return file.fail_or_wait(holes.error(), again);
  const auto found =
      seek(*holes, attributes->size, static_cast<std::uint64_t>(offset), whence == SEEK_DATA);
  if (!found) return void(fuse_reply_err(request, ENXIO));
  fuse_reply_lseek(request, static_cast<off_t>(*found));
}

void lseek(fuse_req_t request, fuse_ino_t inode, off_t offset, int whence, fuse_file_info*) {
  begin(request, Op::Lseek);
  reply_offset(request, inode, offset, whence);
}

// Asked for only where the kernel cannot do without (see init). Nothing is kept for an open file.

void open(fuse_req_t request, fuse_ino_t, fuse_file_info* file) {
  if (begin(request, Op::Open).no_open) return void(fuse_reply_err(request, ENOSYS));
  file->keep_cache = 1;
  fuse_reply_open(request, file);
}

void opendir(fuse_req_t request, fuse_ino_t, fuse_file_info* file) {
  if (begin(request, Op::Opendir).no_opendir) return void(fuse_reply_err(request, ENOSYS));
  file->keep_cache = 1;
  file->cache_readdir = 1;
  fuse_reply_open(request, file);
}

void release(fuse_req_t request, fuse_ino_t, fuse_file_info*) {
  begin(request, Op::Release);
  fuse_reply_err(request, 0);
}

void releasedir(fuse_req_t request, fuse_ino_t, fuse_file_info*) {
  begin(request, Op::Releasedir);
  fuse_reply_err(request, 0);
}

// --------------------------------------------------------------------------- extended attributes

void reply_value(fuse_req_t request, ByteSpan value, std::size_t room) {
  if (room == 0) return void(fuse_reply_xattr(request, value.size()));
  if (value.size() > room) {
    return void(fuse_reply_err(request, value.size() > XATTR_SIZE_MAX ? E2BIG : ERANGE));
  }
  fuse_reply_buf(request, reinterpret_cast<const char*>(value.data()), value.size());
}

// A report may have grown when it is asked for again with the room that it needed: the first answer
// names more.
void reply_report(fuse_req_t request, const std::string& report, std::size_t room) {
  constexpr std::size_t kGrowth = 16 * 1024;
  if (room == 0) return void(fuse_reply_xattr(request, report.size() + kGrowth));
  reply_value(request, as_bytes(report), room);
}

/// Whether `name` is one of the reports that a mount has as attributes without listing them.
bool is_report(const Subject& of, std::string_view name) {
  const bool root = of.entry == of.scene().view.root();
  if (root && (name == kStatsXattr || name == kInfoXattr)) return true;
  if (name != kExtentsXattr) return false;
  const auto attributes = of.tree().attributes(of.entry);
  return !attributes || S_ISREG(attributes->mode);
}

/// REQUIRES: is_report().
Result<std::string> report(const Subject& of, std::string_view name) {
  const Served& served = served_by(of.request);
  if (name == kStatsXattr) return stats_json(served);
  if (name == kInfoXattr) return mount_info_json(served);
  return extents_json(served.dataset.path(), *of.scene().archive, of.entry);
}

void reply_report_of(fuse_req_t request, fuse_ino_t inode, const std::string& name,
                     std::size_t room) {
  const Subject asked(request, inode);
  if (name == kExtentsXattr && !asked.scene().is_whole()) {  // blocks may be noted that go on
    return asked.wait_for_all([=] { reply_report_of(request, inode, name, room); });
  }
  const auto told = report(asked, name);
  if (told) return reply_report(request, *told, room);
  asked.fail_or_wait(told.error(), [=] { reply_report_of(request, inode, name, room); });
}

void reply_xattr(fuse_req_t request, fuse_ino_t inode, const std::string& name, std::size_t room) {
  Served& served = served_by(request);
  const Subject asked(request, inode);
  if (is_report(asked, name)) {
    // The cache server is asked for its part.
    return served.reports->run([=] { reply_report_of(request, inode, name, room); });
  }
  const auto xattrs = asked.tree().xattrs(asked.entry);
  if (!xattrs) {
    return asked.fail_or_wait(xattrs.error(), [=] { reply_xattr(request, inode, name, room); });
  }
  const auto found = std::ranges::find(*xattrs, std::string_view(name), &Xattr::name);
  if (found == xattrs->end()) return void(fuse_reply_err(request, ENODATA));
  reply_value(request, found->value, room);
}

void getxattr(fuse_req_t request, fuse_ino_t inode, const char* name, std::size_t room) {
  begin(request, Op::Getxattr);
  reply_xattr(request, inode, name, room);
}

// The kernel lets only root read these, and local file systems list them to nobody else.
bool listed_for(uid_t uid, std::string_view name) {
  return uid == 0 || !name.starts_with("trusted.");
}

void reply_xattr_names(fuse_req_t request, fuse_ino_t inode, std::size_t room) {
  const Subject asked(request, inode);
  const auto xattrs = asked.tree().xattrs(asked.entry);
  if (!xattrs) {
    return asked.fail_or_wait(xattrs.error(), [=] { reply_xattr_names(request, inode, room); });
  }
  const uid_t uid = fuse_req_ctx(request)->uid;
  std::string names;
  for (const Xattr& xattr : *xattrs) {
    if (listed_for(uid, xattr.name)) names.append(xattr.name).push_back('\0');
  }
  reply_value(request, as_bytes(names), room);
}

void listxattr(fuse_req_t request, fuse_ino_t inode, std::size_t room) {
  begin(request, Op::Listxattr);
  reply_xattr_names(request, inode, room);
}

// ---------------------------------------------------------------------------------- the rest

/// Answers a request that is not implemented here, so that the kernel does not send that kind
/// again.
template <Op op, typename... Rest>
void not_needed(fuse_req_t request, Rest...) {
  begin(request, op);
  fuse_reply_err(request, ENOSYS);
}

void reply_warm(fuse_req_t request, const std::shared_ptr<WarmCommand>& asked) {
  const Subject root(request, FUSE_ROOT_ID);
  if (!root.scene().is_whole()) {
    return root.wait_for_all([=] { reply_warm(request, asked); });
  }
  WarmCommand& command = *asked;
  if (const auto done = warm(served_by(request), command); !done)
    return void(fuse_reply_err(request, done.error().to_errno()));
  fuse_reply_ioctl(request, 0, &command, sizeof command);
}

/// Commands to the mount, on its root. Anything else is unknown here, as on any file.
void ioctl(fuse_req_t request, fuse_ino_t inode, unsigned command, void*, fuse_file_info*, unsigned,
           const void* in, std::size_t in_size, std::size_t) {
  Served& served = begin(request, Op::Ioctl);
  const bool root = inode == FUSE_ROOT_ID;
  if (root && command == kMarkIoctl && in_size == sizeof(MarkCommand)) {
    MarkCommand asked;
    std::memcpy(&asked, in, sizeof asked);
    mark(served, asked);
    return void(fuse_reply_ioctl(request, 0, nullptr, 0));
  }
  if (root && command == kWarmIoctl && in_size == sizeof(WarmCommand)) {
    auto asked = std::make_shared<WarmCommand>();
    std::memcpy(asked.get(), in, sizeof *asked);
    return served.reports->run([request, asked] { reply_warm(request, asked); });
  }
  fuse_reply_err(request, ENOSYS);
}

/// Answers whatever would write. The mount is read-only, so the kernel hardly ever asks.
template <typename... Rest>
void refuse(fuse_req_t request, Rest...) {
  begin(request, Op::Refused);
  fuse_reply_err(request, kWriteRefused);
}

void init(void* userdata, fuse_conn_info* connection) {
  Served& served = *static_cast<Served*>(userdata);
  const unsigned capable = connection->capable & ~served.masked_capabilities;
  connection->want = capable & kWanted;
  connection->max_background = kMaxBackground;
  connection->congestion_threshold = kMaxBackground * 3 / 4;
  served.no_open = (capable & FUSE_CAP_NO_OPEN_SUPPORT) != 0;
  served.no_opendir = (capable & FUSE_CAP_NO_OPENDIR_SUPPORT) != 0;
  spdlog::debug("FUSE {}.{}, capabilities {:#x}, used {:#x}", connection->proto_major,
                connection->proto_minor, capable, connection->want);
}

fuse_lowlevel_ops make_operations() {
  fuse_lowlevel_ops ops = {};
  ops.init = init;
  ops.lookup = lookup;
  ops.forget = forget;
  ops.forget_multi = forget_multi;
  ops.getattr = getattr;
  ops.readlink = readlink;
  ops.open = open;
  ops.read = read;
  ops.release = release;
  ops.opendir = opendir;
  ops.readdir = readdir;
  ops.readdirplus = readdirplus;
  ops.releasedir = releasedir;
  ops.statfs = statfs;
  ops.getxattr = getxattr;
  ops.listxattr = listxattr;
  ops.lseek = lseek;
  ops.flush = not_needed<Op::Flush>;
  ops.fsync = not_needed<Op::Fsync>;
  ops.fsyncdir = not_needed<Op::Fsyncdir>;
  ops.access = not_needed<Op::Access>;
  ops.ioctl = ioctl;
  ops.setattr = refuse;
  ops.mknod = refuse;
  ops.mkdir = refuse;
  ops.unlink = refuse;
  ops.rmdir = refuse;
  ops.symlink = refuse;
  ops.rename = refuse;
  ops.link = refuse;
  ops.write = refuse;
  ops.create = refuse;
  ops.setxattr = refuse;
  ops.removexattr = refuse;
  ops.fallocate = refuse;
  ops.copy_file_range = refuse;
  return ops;
}

}  // namespace

const fuse_lowlevel_ops& operations() {
  static const fuse_lowlevel_ops ops = make_operations();
  return ops;
}

}  // namespace shardfs
