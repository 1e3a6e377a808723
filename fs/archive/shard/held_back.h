// The members that stand between and behind the index headers of a `.tar` (FORMAT.md, section 4):
// Python refuses a global header that nothing follows, libarchive too many in a row.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "fs/base/bytes.h"
#include "fs/tree/builder.h"

namespace shardfs {

/// A member with all its bytes in the tar, ready to be written anywhere its order allows.
struct HeldBack {
  std::optional<std::uint32_t> number;  ///< the builder's; none for a stand-in
  Bytes bytes;                          ///< headers, data, padding
  std::size_t header_size = 0;
  std::uint64_t size = 0;  ///< of the file
  std::vector<std::uint64_t> pieces;
  std::string path;
  std::string target;     ///< of a hard link
  std::string directory;  ///< that holds it, with "/" behind; empty for the root
};

/// The candidates for being held back: the last few members that may still be written later than
/// their turn. What is in it depends on the sequence of members only.
class Candidates {
 public:
  /// Whether a member with these bytes may be held back. (Its bytes must not depend on its place.)
  [[nodiscard]] static bool eligible(const Member& member, ByteSpan bytes);

  /// Counts `member` towards the size of the index: with it grows the number of candidates kept.
  void count(const Member& member);

  /// How many of the foremost candidates must be written before `member` is: it links to one, has
  /// the name of one or of what one links to, is a directory or lies in another one. (GNU tar
  /// gives a directory its final mode and time when it leaves it, so none may be entered twice.)
  [[nodiscard]] std::size_t before(const Member& member) const;

  void push(HeldBack candidate) { queue_.push_back(std::move(candidate)); }
  [[nodiscard]] HeldBack pop();
  [[nodiscard]] bool over_full() const { return queue_.size() > capacity(); }
  [[nodiscard]] std::size_t size() const { return queue_.size(); }
  [[nodiscard]] const std::deque<HeldBack>& queue() const { return queue_; }

 private:
  [[nodiscard]] std::uint64_t capacity() const;

  std::deque<HeldBack> queue_;
  std::uint64_t weight_ = 0;  ///< bytes the index will have at most
};

}  // namespace shardfs
