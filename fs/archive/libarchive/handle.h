// libarchive's reader as an owned object, and what it says when it fails.
#pragma once

#include <memory>
#include <string>

#include <locale.h>

#include "fs/archive/libarchive/library.h"
#include "fs/base/result.h"

namespace shardfs {

struct CloseArchive {
  void operator()(struct archive* a) const { libarchive::archive_read_free(a); }
};
using ArchiveHandle = std::unique_ptr<struct archive, CloseArchive>;

/// A new reader. Unsupported without libarchive; throws std::bad_alloc.
[[nodiscard]] Result<ArchiveHandle> new_archive();

/// Has it know all of libarchive's formats but mtree, which reads the files that the archive names,
/// raw and empty.
void support_formats(struct archive* a);

/// libarchive's last message, or that there is none.
[[nodiscard]] std::string archive_message(struct archive* a);

/// The failure that libarchive reports last: Unsupported if it knows no such format, else Corrupt.
[[nodiscard]] std::unexpected<Error> archive_failure(struct archive* a, const std::string& name,
                                                     const std::string& where = "");

/// The calling thread's locale decides what libarchive takes names for. In "C" it leaves a tar's
/// bytes alone, while in a UTF-8 locale it composes accents; names in UTF-16 need UTF-8.
class ThreadLocale {
 public:
  explicit ThreadLocale(bool utf8)
      : locale_(::newlocale(LC_CTYPE_MASK, utf8 ? "C.UTF-8" : "C", nullptr)),
        before_(locale_ != nullptr ? ::uselocale(locale_) : nullptr) {}
  ~ThreadLocale() {
    if (locale_ == nullptr) return;
    ::uselocale(before_);
    ::freelocale(locale_);
  }
  ThreadLocale(const ThreadLocale&) = delete;
  ThreadLocale& operator=(const ThreadLocale&) = delete;

 private:
  locale_t locale_, before_;
};

}  // namespace shardfs
