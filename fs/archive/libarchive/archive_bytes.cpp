#include "fs/archive/libarchive/archive_bytes.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <future>

#include "fs/archive/compressed/pass.h"
#include "fs/archive/libarchive/member.h"

namespace shardfs {

namespace {

/// Bytes that are read at a time where the archive is not compressed: the headers of small members
/// lie close together, and a large member is passed by.
constexpr std::size_t kRequest = 1024 * 1024;
/// A Rock Ridge field: "ZF", its length and version, "paged zlib".
constexpr std::string_view kZisofs("ZF\x10\x01pz", 6);

}  // namespace

int ArchiveBytes::attach(struct archive* a) {
  libarchive::archive_read_set_read_callback(a, &ArchiveBytes::read);
  if (stream_ == nullptr) {
    libarchive::archive_read_set_seek_callback(a, &ArchiveBytes::seek);
    libarchive::archive_read_set_skip_callback(a, &ArchiveBytes::skip);
  }
  libarchive::archive_read_set_callback_data(a, this);
  return libarchive::archive_read_open1(a);
}

void ArchiveBytes::begin_header() {
  in_header_ = true;
  header_.clear();
  header_start_ = block_start_;
}

std::optional<Time> ArchiveBytes::pax_mtime(std::uint64_t position) const {
  if (position < header_start_) return std::nullopt;
  Bytes all = header_;
  append(all, block_);
  return position - header_start_ > all.size()
             ? std::nullopt
             : mtime_of_headers(as_text(all).substr(position - header_start_));
}

bool ArchiveBytes::pax_has(std::uint64_t position, std::string_view key) const {
  if (position < header_start_) return false;
  Bytes all = header_;
  append(all, block_);
  const std::string_view text = as_text(all);
  return position - header_start_ <= text.size() &&
         text.substr(position - header_start_, 64 * 1024).contains(key);
}

Result<void> ArchiveBytes::drain() {
  while (!error_ && stream_ != nullptr && next() && !block_.empty()) continue;
  return check();
}

Result<void> ArchiveBytes::check() const {
  if (error_) return std::unexpected(*error_);
  return {};
}

bool ArchiveBytes::next() {
  if (in_header_) append(header_, block_);
  block_start_ += block_.size();
  block_ = {};
  if (look_ && !look_()) {
    error_ = fail(ErrorKind::Interrupted, source_.name() + ": not scanned to its end").error();
    return false;
  }
  auto got = stream_ != nullptr ? stream_->next() : next_of_source();
  if (!got) {
    error_ = std::move(got).error();
    return false;
  }
  block_ = *got;
  if (looks_for_zisofs_ && as_text(block_).contains(kZisofs)) has_zisofs_ = true;
  return true;
}

Result<ByteSpan> ArchiveBytes::next_of_source() {
  const std::uint64_t left = source_.size() - std::min(block_start_, source_.size());
  buffer_.resize(std::min<std::uint64_t>(left, kRequest));
  if (!look_ || !source_.may_wait()) {
    SHARDFS_CHECK(source_.read_at(block_start_, buffer_));
    return ByteSpan(buffer_);
  }
  auto read = std::async(std::launch::async | std::launch::deferred,
                         [this] { return source_.read_at(block_start_, buffer_); });
  SHARDFS_CHECK(wait_for(read, look_));
  return ByteSpan(buffer_);
}

void ArchiveBytes::go_to(std::uint64_t position) {
  block_ = {};
  block_start_ = position;
  header_.clear();
  header_start_ = position;
}

la_ssize_t ArchiveBytes::read(struct archive* a, void* self, const void** buffer) {
  auto* input = static_cast<ArchiveBytes*>(self);
  if (!input->next()) {
    libarchive::archive_set_error(a, EIO, "%s", input->error_->message.c_str());
    return -1;
  }
  *buffer = input->block_.data();
  return static_cast<la_ssize_t>(input->block_.size());
}

la_int64_t ArchiveBytes::skip(struct archive*, void* self, la_int64_t request) {
  auto* input = static_cast<ArchiveBytes*>(self);
  const std::uint64_t at = input->block_start_ + input->block_.size();
  const std::uint64_t left = input->source_.size() - std::min(at, input->source_.size());
  const std::uint64_t step = std::min(static_cast<std::uint64_t>(request), left);
  input->go_to(at + step);
  return static_cast<la_int64_t>(step);
}

la_int64_t ArchiveBytes::seek(struct archive* a, void* self, la_int64_t offset, int whence) {
  auto* input = static_cast<ArchiveBytes*>(self);
  const auto size = static_cast<la_int64_t>(input->source_.size());
  const auto here = static_cast<la_int64_t>(input->block_start_ + input->block_.size());
  const la_int64_t from = whence == SEEK_SET ? 0 : whence == SEEK_END ? size : here;
  if (offset < -from || offset > size - from) {
    libarchive::archive_set_error(a, EINVAL, "a place outside the archive");
    return ARCHIVE_FATAL;
  }
  input->go_to(static_cast<std::uint64_t>(from + offset));
  return from + offset;
}

}  // namespace shardfs
