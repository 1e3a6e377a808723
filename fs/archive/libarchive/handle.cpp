#include "fs/archive/libarchive/handle.h"

#include <new>

#include <fmt/format.h>

namespace shardfs {

void support_formats(struct archive* a) {
  // All of libarchive's but mtree, which reads the files that the archive names, raw and empty.
  libarchive::archive_read_support_format_tar(a);
  libarchive::archive_read_support_format_gnutar(a);
  libarchive::archive_read_support_format_cpio(a);
  libarchive::archive_read_support_format_zip(a);
  libarchive::archive_read_support_format_7zip(a);
  libarchive::archive_read_support_format_rar(a);
  libarchive::archive_read_support_format_rar5(a);
  libarchive::archive_read_support_format_iso9660(a);
  libarchive::archive_read_support_format_xar(a);
  libarchive::archive_read_support_format_lha(a);
  libarchive::archive_read_support_format_cab(a);
  libarchive::archive_read_support_format_ar(a);
  libarchive::archive_read_support_format_warc(a);
}

std::string archive_message(struct archive* a) {
  const char* text = libarchive::archive_error_string(a);
  return text != nullptr ? text : "libarchive does not say why; try: bsdtar -tf, or copy it again";
}

Result<ArchiveHandle> new_archive() {
  SHARDFS_CHECK(load_libarchive());
  ArchiveHandle a(libarchive::archive_read_new());
  if (!a) throw std::bad_alloc();
  return a;
}

std::unexpected<Error> archive_failure(struct archive* a, const std::string& name,
                                       const std::string& where) {
  const std::string text = archive_message(a);
  if (text.starts_with("Unrecognized")) {
    return fail(ErrorKind::Unsupported,
                fmt::format("{}: not an archive that libarchive reads: {}", name, text));
  }
  return fail(ErrorKind::Corrupt, fmt::format("{}: cannot be read{}: {}", name, where, text));
}

}  // namespace shardfs
