// A libarchive entry as a member.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <archive.h>
#include <archive_entry.h>

#include "fs/base/result.h"
#include "fs/tree/builder.h"

namespace shardfs {

/// Path of an entry, or of its hard link's target, as Member wants it. `stripped` is set if it was
/// absolute. Invalid, without a file name, if it contains "..".
[[nodiscard]] Result<std::string> member_path(const char* raw, bool& stripped);

/// The name as bytes; never null. REQUIRES: libarchive's own conversion of `entry`.
[[nodiscard]] const char* raw_path(struct archive_entry* entry);

/// Everything but path, hard link target and size. `format` is archive_format(). Invalid, without a
/// file name, for a type or an owner that cannot be.
[[nodiscard]] Result<Member> member_of(struct archive_entry* entry, int format);

/// Holes of a file of `size` bytes from the list of its data. Empty if there are none.
[[nodiscard]] std::vector<Hole> holes_of(struct archive_entry* entry, std::uint64_t size);

/// POSIX ACL `type` (ARCHIVE_ENTRY_ACL_TYPE_ACCESS or _DEFAULT) as Linux keeps it in an extended
/// attribute; empty if there is none beyond the mode.
[[nodiscard]] Bytes acl_xattr(struct archive_entry* entry, int type);

/// The mtime record of a pax header's text, as POSIX and GNU tar mean it. libarchive misreads a
/// time before 1970 with a fraction (pax "mtime=-0.5" becomes +0.5).
[[nodiscard]] std::optional<Time> mtime_of_pax(std::string_view records);

/// The same from the headers of a member of a tar, from the first one on.
[[nodiscard]] std::optional<Time> mtime_of_headers(std::string_view headers);

}  // namespace shardfs
