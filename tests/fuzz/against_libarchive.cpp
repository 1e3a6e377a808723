#include "tests/fuzz/against_libarchive.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>

#include "fs/archive/libarchive/handle.h"
#include "fs/archive/libarchive/member.h"
#include "fs/archive/open.h"
#include "fs/tree/import.h"
#include "tests/fuzz/memory_source.h"

namespace shardfs {

namespace {

constexpr std::size_t kMost = 4 * 1024 * 1024;
constexpr int kMaxMembers = 1000;

/// What is known of a name.
struct Seen {
  int times = 0;
  std::optional<Bytes> bytes;  ///< of a file that was read to its end
};

/// All of a member's data, zeros where there are none; nothing if it is too much, cannot be read,
/// or lies outside of the file.
std::optional<Bytes> data_of(struct archive* reader, struct archive_entry* entry) {
  const auto size = static_cast<std::uint64_t>(archive_entry_size(entry));
  if (size > kMost) return std::nullopt;
  Bytes bytes(size);
  for (;;) {
    const void* part = nullptr;
    std::size_t length = 0;
    la_int64_t at = 0;
    const int result = archive_read_data_block(reader, &part, &length, &at);
    if (result == ARCHIVE_EOF) return bytes;
    if (result != ARCHIVE_OK || at < 0 || static_cast<std::uint64_t>(at) > size)
      return std::nullopt;
    const std::uint64_t room = size - static_cast<std::uint64_t>(at);
    // Of a WARC record it gives the empty lines behind it, too. Otherwise it is a map of holes that
    // does not fit its file, which bsdtar calls too much data.
    if (length > room && archive_format(reader) != ARCHIVE_FORMAT_WARC) return std::nullopt;
    length = std::min<std::uint64_t>(length, room);
    std::copy_n(static_cast<const std::byte*>(part), length, bytes.begin() + at);
  }
}

/// Whether the data that come with an entry are the bytes of the file of its name.
bool has_data(struct archive* reader, struct archive_entry* entry) {
  if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_size(entry) < 0) return false;
  if (archive_entry_nlink(entry) < 2 && archive_entry_hardlink(entry) == nullptr) return true;
  // Of several names of one inode in a cpio only one has them; those of a tar are all the first's.
  return (archive_format(reader) & ARCHIVE_FORMAT_BASE_MASK) == ARCHIVE_FORMAT_CPIO &&
         archive_entry_size(entry) > 0;
}

std::map<std::string, Seen> read_all(ByteSpan archive) {
  const ThreadLocale locale(false);
  const ArchiveHandle reader = *new_archive();
  support_formats(reader.get());
  archive_read_support_filter_gzip(reader.get());
  archive_read_support_filter_bzip2(reader.get());
  archive_read_support_filter_xz(reader.get());
  archive_read_support_filter_zstd(reader.get());
  archive_read_support_filter_lz4(reader.get());
  std::map<std::string, Seen> names;
  if (archive_read_open_memory(reader.get(), archive.data(), archive.size()) != ARCHIVE_OK)
    return names;
  struct archive_entry* entry = nullptr;
  for (int members = 0;; ++members) {
    const int result = archive_read_next_header(reader.get(), &entry);
    if (result == ARCHIVE_EOF) return names;
    if (result < ARCHIVE_WARN || result == ARCHIVE_RETRY || members == kMaxMembers) return {};
    const auto path = normalized_path(raw_path(entry));
    if (!path) continue;
    Seen& seen = names[*path];
    ++seen.times;
    if (has_data(reader.get(), entry)) seen.bytes = data_of(reader.get(), entry);
    if (const char* target = archive_entry_hardlink(entry)) {
      // If the name is there twice, or both names have data, it is not sure whose bytes they get.
      const auto first = normalized_path(target);
      if (!first || !names.contains(*first)) continue;
      Seen& other = names[*first];
      const bool both = other.bytes && !other.bytes->empty() && seen.bytes != other.bytes;
      if (other.times != 1 || both) seen.times = other.times = 2;
      if (seen.bytes) other.bytes = seen.bytes;
    }
  }
}

}  // namespace

void compare_with_libarchive(ByteSpan bytes) {
  const auto archive = open_archive(std::make_shared<MemorySource>(bytes));
  if (!archive) return;
  std::size_t left = kMost;
  for (const auto& [path, seen] : read_all(bytes)) {
    if (seen.times != 1 || !seen.bytes || left < seen.bytes->size()) continue;
    left -= seen.bytes->size();
    const auto entry = (*archive)->tree().find(path);
    if (!entry) continue;
    // Of a directory and a file of one name only one can be there.
    const auto attributes = (*archive)->tree().attributes(*entry);
    if (!attributes || !S_ISREG(attributes->mode)) continue;
    Bytes ours(seen.bytes->size() + 1);
    const auto got = (*archive)->read(attributes->inode, 0, ours, nullptr);
    if (!got) continue;
    ours.resize(*got);
    if (std::ranges::equal(ours, *seen.bytes)) continue;
    std::fprintf(stderr, "%s: %zu bytes, other ones than the %zu of libarchive\n", path.c_str(),
                 ours.size(), seen.bytes->size());
    std::abort();
  }
}

}  // namespace shardfs
