#include "tools/mkshard/archive_input.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include <archive_entry.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/archive/libarchive/member.h"
#include "tools/common/interrupt.h"
#include "tools/mkshard/gzip_input.h"

namespace shardfs {
namespace {

constexpr std::size_t kBlock = 1024 * 1024;
constexpr std::size_t kHead = 8;
// More than a block of bzip2 or lz4 decodes to.
constexpr std::uint64_t kCheckAhead = 5 * 1024 * 1024;

/// The name of what a file that begins with `head` is compressed with; null if none is known.
const char* compression_of(std::string_view head) {
  using namespace std::string_view_literals;
  static constexpr std::array<std::pair<std::string_view, const char*>, 5> kMagics{
      {{"\x1f\x8b"sv, "gzip"},
       {"BZh"sv, "bzip2"},
       {"\xFD\x37zXZ\0"sv, "xz"},
       {"\x28\xB5\x2F\xFD"sv, "zstd"},
       {"\x04\x22\x4D\x18"sv, "lz4"}}};
  for (const auto& [magic, name] : kMagics) {
    if (head.starts_with(magic)) return name;
  }
  return nullptr;
}

}  // namespace

Result<std::unique_ptr<ArchiveFile>> ArchiveFile::open(const std::string& path) {
  const bool standard_input = path == "-";
  UniqueFd fd(standard_input ? ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)
                             : ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  const std::string name = standard_input ? "standard input" : path;
  struct stat status = {};
  if (!fd || ::fstat(fd.get(), &status) != 0) return fail_errno(errno, name, "cannot open");
  if (S_ISDIR(status.st_mode)) return fail(ErrorKind::Invalid, name + ": is a directory");
  std::unique_ptr<ArchiveFile> file(new ArchiveFile(std::move(fd), name));
  if (S_ISREG(status.st_mode)) file->size_ = static_cast<std::uint64_t>(status.st_size);
  return file;
}

ArchiveFile::ArchiveFile(UniqueFd fd, std::string name)
    : fd_(std::move(fd)), cancel_(::eventfd(0, EFD_CLOEXEC)), name_(std::move(name)) {}

std::string ArchiveFile::path() const { return fmt::format("/proc/self/fd/{}", fd_.get()); }

void ArchiveFile::cancel() { ::eventfd_write(cancel_.get(), 1); }

int ArchiveFile::attach(struct archive* a) {
  ::archive_read_set_read_callback(a, &ArchiveFile::read);
  if (is_seekable()) {
    ::archive_read_set_seek_callback(a, &ArchiveFile::seek);
    ::archive_read_set_skip_callback(a, &ArchiveFile::skip);
  }
  ::archive_read_set_callback_data(a, this);
  return ::archive_read_open1(a);
}

std::string ArchiveFile::peek(std::size_t offset, std::size_t size) const {
  std::string bytes(size, '\0');
  const off_t at = ::lseek(fd_.get(), 0, SEEK_CUR);
  const ssize_t count =
      at < 0 ? -1 : ::pread(fd_.get(), bytes.data(), size, at + static_cast<off_t>(offset));
  bytes.resize(static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
  return bytes;
}

double ArchiveFile::fraction() const {
  if (!size_ || *size_ == 0) return -1;
  return static_cast<double>(position_.load()) / static_cast<double>(*size_);
}

la_ssize_t ArchiveFile::read(struct archive* a, void* self, const void** buffer) {
  auto* file = static_cast<ArchiveFile*>(self);
  const la_ssize_t count = file->next_block(buffer);
  if (count < 0) ::archive_set_error(a, EIO, "%s", file->error_->message.c_str());
  return count;
}

la_ssize_t ArchiveFile::next_block(const void** buffer) {
  buffer_.resize(kBlock);
  *buffer = buffer_.data();
  if (held_ > 0) return static_cast<la_ssize_t>(std::exchange(held_, 0));
  return read_some(buffer_.data(), buffer_.size());
}

la_ssize_t ArchiveFile::read_some(char* to, std::size_t size) {
  while (true) {
    if (const auto ready = Interrupt::wait_readable(fd_.get(), cancel_.get()); !ready) {
      error_ = ready.error();
      return -1;
    }
    const ssize_t count = ::read(fd_.get(), to, size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      error_ = fail_errno(errno, name_, "cannot read").error();
      return -1;
    }
    position_ += static_cast<std::uint64_t>(count);
    return count;
  }
}

Result<std::string> ArchiveFile::head() {
  if (is_seekable()) return peek(0, kHead);
  buffer_.resize(kBlock);
  while (held_ < kHead) {
    const la_ssize_t count = read_some(buffer_.data() + held_, buffer_.size() - held_);
    if (count < 0) return std::unexpected(*error_);
    if (count == 0) break;
    held_ += static_cast<std::size_t>(count);
  }
  return std::string(buffer_.data(), std::min(held_, kHead));
}

la_int64_t ArchiveFile::seek(struct archive* a, void* self, la_int64_t offset, int whence) {
  auto* file = static_cast<ArchiveFile*>(self);
  const off_t at = ::lseek(file->fd_.get(), offset, whence);
  if (at < 0) {
    ::archive_set_error(a, errno, "cannot seek");
    return ARCHIVE_FATAL;
  }
  file->position_ = static_cast<std::uint64_t>(at);
  return at;
}

la_int64_t ArchiveFile::skip(struct archive*, void* self, la_int64_t request) {
  auto* file = static_cast<ArchiveFile*>(self);
  const off_t before = ::lseek(file->fd_.get(), 0, SEEK_CUR);
  const auto left = static_cast<la_int64_t>(*file->size_) - before;
  const la_int64_t step = std::clamp<la_int64_t>(left, 0, request);
  if (before < 0 || ::lseek(file->fd_.get(), step, SEEK_CUR) < 0) return 0;
  file->position_ += static_cast<std::uint64_t>(step);
  return step;
}

Result<std::unique_ptr<DecodedInput>> DecodedInput::open(ArchiveFile& file) {
  std::unique_ptr<DecodedInput> input(new DecodedInput(file));
  SHARDFS_CHECK(input->begin());
  return input;
}

DecodedInput::DecodedInput(ArchiveFile& file) : file_(file) {}

DecodedInput::~DecodedInput() = default;

Result<void> DecodedInput::begin() {
  const auto head = file_.head();
  if (!head) return std::unexpected(head.error());
  compression_ = compression_of(*head);
  SHARDFS_TRY(raw_, new_archive());
  if (GzipInput::knows(*head)) gzip_ = std::make_unique<GzipInput>(file_);
  struct archive* raw = raw_.get();
  ::archive_read_support_filter_all(raw);
  ::archive_read_support_format_raw(raw);
  int result = gzip_ ? gzip_->attach(raw) : file_.attach(raw);
  struct archive_entry* entry = nullptr;
  if (result >= ARCHIVE_WARN) result = ::archive_read_next_header(raw, &entry);
  if (file_.error()) return std::unexpected(*file_.error());
  if (gzip_ && !gzip_->failure().empty()) return failure(gzip_->failure());
  if (result == ARCHIVE_EOF || (result < ARCHIVE_WARN && gzip_)) {
    return fail(ErrorKind::Unsupported, file_.name() + ": not an archive: there is nothing in it");
  }
  if (result < ARCHIVE_WARN) return failure(archive_message(raw));
  SHARDFS_CHECK(check_filters());
  const void* first = nullptr;
  if (next_block(&first) < 0) return check();
  return {};
}

/// libarchive finds gzip inside of other things, too, an rpm for one, and does not check it there.
Result<void> DecodedInput::check_filters() const {
  for (int i = 0; i < ::archive_filter_count(raw_.get()); ++i) {
    if (::archive_filter_code(raw_.get(), i) != ARCHIVE_FILTER_GZIP) continue;
    return fail(ErrorKind::Unsupported,
                fmt::format("{}: gzip inside of something else, whose checksum nobody would check; "
                            "try: unpack the outer layer (gzip -dc, rpm2cpio ...) into mkshard -",
                            file_.name()));
  }
  return {};
}

int DecodedInput::attach(struct archive* a) {
  ::archive_read_set_read_callback(a, &DecodedInput::read);
  ::archive_read_set_callback_data(a, this);
  return ::archive_read_open1(a);
}

la_ssize_t DecodedInput::read(struct archive* a, void* self, const void** buffer) {
  auto* input = static_cast<DecodedInput*>(self);
  if (std::exchange(input->first_, false)) {
    *buffer = input->block_.data();
    return static_cast<la_ssize_t>(input->block_.size());
  }
  const la_ssize_t size = input->next_block(buffer);
  if (size < 0) ::archive_set_error(a, EIO, "%s", input->failure_.c_str());
  return size;
}

la_ssize_t DecodedInput::next_block(const void** buffer) {
  if (in_header_) header_.append(block_);
  block_start_ += block_.size();
  block_ = {};
  std::size_t size = 0;
  la_int64_t offset = 0;
  while (!at_end_ && size == 0) {
    const int result = ::archive_read_data_block(raw_.get(), buffer, &size, &offset);
    at_end_ = result == ARCHIVE_EOF;
    if (result >= ARCHIVE_WARN) continue;
    failure_ = archive_message(raw_.get());
    return -1;
  }
  if (at_end_) return 0;
  block_ = {static_cast<const char*>(*buffer), size};
  return static_cast<la_ssize_t>(size);
}

void DecodedInput::begin_header() {
  in_header_ = true;
  header_.clear();
  header_start_ = block_start_;
}

std::optional<Time> DecodedInput::pax_mtime(std::uint64_t position) const {
  if (position < header_start_) return std::nullopt;
  const std::string all = header_ + std::string(block_);
  return mtime_of_headers(std::string_view(all).substr(position - header_start_));
}

Result<bool> DecodedInput::drain(std::uint64_t position) {
  const auto not_zero = [](std::string_view bytes) {
    return bytes.find_first_not_of('\0') != std::string_view::npos;
  };
  const std::uint64_t taken = std::max(position, block_start_) - block_start_;
  bool found = not_zero(block_.substr(std::min<std::uint64_t>(taken, block_.size())));
  const void* buffer = nullptr;
  while (true) {
    const la_ssize_t size = next_block(&buffer);
    if (size < 0) SHARDFS_CHECK(check());
    if (size <= 0) return found;
    found = found || not_zero(block_);
  }
}

Result<void> DecodedInput::check_ahead() {
  const void* buffer = nullptr;
  const std::uint64_t end = block_start_ + kCheckAhead;
  while (compression_ != nullptr && block_start_ < end && next_block(&buffer) > 0) continue;
  return check();
}

bool DecodedInput::has_garbage() const { return gzip_ && gzip_->has_garbage(); }

Result<void> DecodedInput::check() const {
  if (file_.error()) return std::unexpected(*file_.error());
  if (failure_.empty()) return {};
  return failure(failure_);
}

std::unexpected<Error> DecodedInput::failure(const std::string& text) const {
  if (compression_ == nullptr) return archive_failure(raw_.get(), file_.name());
  // That libarchive does not recognize the file says nothing more once its first bytes are known.
  const std::string reason = text.starts_with("Unrecognized") ? "" : ": " + text;
  return fail(ErrorKind::Corrupt,
              fmt::format("{}: is damaged or cut short ({}{}); try: copy it again", file_.name(),
                          compression_, reason));
}

}  // namespace shardfs
