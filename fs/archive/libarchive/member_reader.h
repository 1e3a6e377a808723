// Reads members of archives in which they have no place of their own: 7z.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "fs/base/byte_source.h"
#include "fs/base/bytes.h"
#include "fs/base/result.h"

namespace shardfs {

/// Goes through an archive by libarchive, from where it was. A solid archive must be decoded up to
/// a member anyway, so what is passed on the way is given too. One thread at a time.
class MemberReader {
 public:
  /// `source` must outlive this object.
  explicit MemberReader(const ByteSource& source);
  ~MemberReader();

  using Take = std::function<void(std::uint64_t number, Bytes bytes)>;
  /// Gives the data of member `number`, counted as a scan does, and of those regular files before
  /// it that are passed and have at most `most` bytes, to `take`. Corrupt: cannot be decoded. Io as
  /// the source.
  [[nodiscard]] Result<void> read(std::uint64_t number, std::uint64_t most, const Take& take);

 private:
  struct State;
  [[nodiscard]] Result<void> begin();

  const ByteSource& source_;
  std::unique_ptr<State> state_;  ///< null before the first member, and after a failure
};

}  // namespace shardfs
