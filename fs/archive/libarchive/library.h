// libarchive, loaded by the first archive that needs it: it brings libxml2 and ICU, 36 MB, and
// loading them would be a third of a cold mount (25 ms of 75) of a shard, which needs none of it.
#pragma once

#include <archive.h>
#include <archive_entry.h>

#include "fs/base/result.h"

// clang-format off
#define SHARDFS_LIBARCHIVE(FUNCTION)                                                         \
  FUNCTION(archive_entry_acl_next) FUNCTION(archive_entry_acl_reset)                         \
  FUNCTION(archive_entry_filetype) FUNCTION(archive_entry_gid)                               \
  FUNCTION(archive_entry_hardlink) FUNCTION(archive_entry_is_encrypted)                      \
  FUNCTION(archive_entry_mode) FUNCTION(archive_entry_mtime)                                 \
  FUNCTION(archive_entry_mtime_nsec) FUNCTION(archive_entry_nlink)                           \
  FUNCTION(archive_entry_pathname) FUNCTION(archive_entry_pathname_utf8)                     \
  FUNCTION(archive_entry_rdevmajor) FUNCTION(archive_entry_rdevminor)                        \
  FUNCTION(archive_entry_set_filetype) FUNCTION(archive_entry_size)                          \
  FUNCTION(archive_entry_size_is_set) FUNCTION(archive_entry_sparse_next)                    \
  FUNCTION(archive_entry_sparse_reset) FUNCTION(archive_entry_symlink)                       \
  FUNCTION(archive_entry_symlink_utf8) FUNCTION(archive_entry_uid)                           \
  FUNCTION(archive_entry_xattr_next) FUNCTION(archive_entry_xattr_reset)                     \
  FUNCTION(archive_error_string) FUNCTION(archive_filter_bytes) FUNCTION(archive_format)     \
  FUNCTION(archive_format_name) FUNCTION(archive_read_data_block)                            \
  FUNCTION(archive_read_data_skip) FUNCTION(archive_read_free)                               \
  FUNCTION(archive_read_header_position) FUNCTION(archive_read_new)                          \
  FUNCTION(archive_read_next_header) FUNCTION(archive_read_open1)                            \
  FUNCTION(archive_read_set_callback_data) FUNCTION(archive_read_set_read_callback)          \
  FUNCTION(archive_read_set_seek_callback) FUNCTION(archive_read_set_skip_callback)          \
  FUNCTION(archive_read_support_format_7zip) FUNCTION(archive_read_support_format_ar)        \
  FUNCTION(archive_read_support_format_cab) FUNCTION(archive_read_support_format_cpio)       \
  FUNCTION(archive_read_support_format_gnutar) FUNCTION(archive_read_support_format_iso9660) \
  FUNCTION(archive_read_support_format_lha) FUNCTION(archive_read_support_format_rar)        \
  FUNCTION(archive_read_support_format_rar5) FUNCTION(archive_read_support_format_tar)       \
  FUNCTION(archive_read_support_format_warc) FUNCTION(archive_read_support_format_xar)       \
  FUNCTION(archive_read_support_format_zip) FUNCTION(archive_set_error)
// clang-format on

namespace shardfs {

/// What is used of it, by its own names. REQUIRES: load_libarchive() succeeded.
namespace libarchive {
#define SHARDFS_DECLARE(name) extern decltype(&::name) name;
SHARDFS_LIBARCHIVE(SHARDFS_DECLARE)
#undef SHARDFS_DECLARE
}  // namespace libarchive

/// Unsupported where the library, in the version that this was built with, is not installed. Any
/// thread; it stays for good.
[[nodiscard]] Result<void> load_libarchive();

}  // namespace shardfs
