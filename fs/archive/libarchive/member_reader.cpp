#include "fs/archive/libarchive/member_reader.h"

#include <archive_entry.h>
#include <fmt/format.h>

#include "fs/archive/libarchive/archive_bytes.h"
#include "fs/archive/libarchive/handle.h"

namespace shardfs {

struct MemberReader::State {
  State(const ByteSource& source, ArchiveHandle reader)
      : input(source, nullptr), archive(std::move(reader)) {}

  ArchiveBytes input;
  ArchiveHandle archive;
  std::uint64_t next = 0;  ///< number of the member that comes next
};

namespace {

/// All of a member's data, at most `most` bytes.
Result<Bytes> read_data(struct archive* a, std::uint64_t most) {
  Bytes bytes;
  while (true) {
    const void* part = nullptr;
    std::size_t size = 0;
    la_int64_t offset = 0;
    const int result = libarchive::archive_read_data_block(a, &part, &size, &offset);
    if (result == ARCHIVE_EOF) return bytes;
    if (result != ARCHIVE_OK) return fail(ErrorKind::Corrupt, archive_message(a));
    const auto at = static_cast<std::uint64_t>(offset);
    if (at < bytes.size() || at > most || size > most - at)
      return fail(ErrorKind::Corrupt, "it has more data than its size says");
    bytes.resize(at);
    append(bytes, ByteSpan(static_cast<const std::byte*>(part), size));
  }
}

}  // namespace

MemberReader::MemberReader(const ByteSource& source) : source_(source) {}
MemberReader::~MemberReader() = default;

Result<void> MemberReader::begin() {
  SHARDFS_TRY(ArchiveHandle archive, new_archive());
  state_ = std::make_unique<State>(source_, std::move(archive));
  support_formats(state_->archive.get());
  if (state_->input.attach(state_->archive.get()) >= ARCHIVE_WARN) return {};
  SHARDFS_CHECK(state_->input.check());
  return fail(ErrorKind::Corrupt, archive_message(state_->archive.get()));
}

Result<void> MemberReader::read(std::uint64_t number, std::uint64_t most, const Take& take) {
  const ThreadLocale locale(true);
  const auto failed = [&](Error error) {
    if (auto read = state_->input.check(); !read) error = std::move(read).error();
    state_.reset();
    return std::unexpected(std::move(error));
  };
  if (!state_ || state_->next > number) {
    if (auto begun = begin(); !begun) return failed(std::move(begun).error());
  }
  while (state_->next <= number) {
    struct archive* a = state_->archive.get();
    struct archive_entry* entry = nullptr;
    const int result = libarchive::archive_read_next_header(a, &entry);
    if (result < ARCHIVE_WARN || result == ARCHIVE_EOF || result == ARCHIVE_RETRY)
      return failed({ErrorKind::Corrupt, 0, archive_message(a)});
    const std::uint64_t here = state_->next++;
    const auto size = static_cast<std::uint64_t>(libarchive::archive_entry_size(entry));
    if (libarchive::archive_entry_filetype(entry) != AE_IFREG || size > most) continue;
    auto bytes = read_data(a, size);
    if (bytes) {
      take(here, *std::move(bytes));
    } else if (here == number) {
      return failed(std::move(bytes).error());
    }
  }
  return {};
}

}  // namespace shardfs
