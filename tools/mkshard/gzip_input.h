// gzip decoded with its checksums checked, which libarchive does not do.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <archive.h>
#include <zlib.h>

#include "tools/mkshard/archive_input.h"

namespace shardfs {

/// Decodes the gzip members of a file one after the other; every one must end with the right CRC32
/// and size. Zeros behind the last one are padding. Used by one thread.
class GzipInput {
 public:
  /// Whether a file that begins with `head` is gzip.
  [[nodiscard]] static bool knows(std::string_view head) { return head.starts_with("\x1f\x8b"); }

  /// `file` must outlive this. Throws std::bad_alloc.
  explicit GzipInput(ArchiveFile& file);
  ~GzipInput() { ::inflateEnd(&z_); }
  GzipInput(const GzipInput&) = delete;
  GzipInput& operator=(const GzipInput&) = delete;

  /// Registers this as what `a` reads.
  [[nodiscard]] int attach(struct archive* a);

  /// What is wrong with the data; empty if nothing is, so far.
  [[nodiscard]] const std::string& failure() const { return failure_; }

  /// Whether the last member was followed by bytes that are neither zero nor gzip. They are
  /// skipped.
  [[nodiscard]] bool has_garbage() const { return garbage_; }

 private:
  enum class State : unsigned char { InMember, BetweenMembers, Ended };

  static la_ssize_t read(struct archive* a, void* self, const void** buffer);
  la_ssize_t next_block(const void** buffer);
  [[nodiscard]] bool refill();
  void find_member();
  [[nodiscard]] bool decode();

  ArchiveFile& file_;
  z_stream z_ = {};
  std::vector<unsigned char> out_;
  State state_ = State::InMember;
  bool input_ended_ = false;
  bool garbage_ = false;
  std::string failure_;
};

}  // namespace shardfs
