// What is to be packed, as one sequence of steps in archive order.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "fs/archive/shard/writer.h"
#include "fs/base/bytes.h"
#include "fs/base/result.h"
#include "fs/tree/builder.h"

namespace shardfs {

/// A member with all its data, or one that has none. `payload` is prepared if `prepared`; otherwise
/// only its bytes are set.
struct WholeMember {
  Member member;
  Payload payload;
  bool prepared = false;
};

/// A file whose data follow as FileData, member.size bytes in all.
struct BegunMember {
  Member member;
};

struct FileData {
  Bytes bytes;
};

/// A difference between source and archive that --ignore-failed-read lets pass: a file left out, or
/// one that changed while it was read.
struct Skipped {
  std::string path;
  int sys_errno = 0;
  std::string text;  ///< what failed, without the path
};

/// Something the user should read that makes no difference to the exit code.
struct Notice {
  std::string text;
};

using Item = std::variant<WholeMember, BegunMember, FileData, Skipped, Notice>;

/// Files up to this many bytes are read whole by a worker, ahead of the writer.
inline constexpr std::uint64_t kWholeFile = 4 * 1024 * 1024;
/// Larger ones come in chunks of this many bytes.
inline constexpr std::uint64_t kChunk = 4 * 1024 * 1024;
/// Bytes of files that are read ahead and not yet taken by the writer.
inline constexpr std::uint64_t kReadAhead = 48 * 1024 * 1024;

/// Jobs of reading ahead that are under way. Also bounds the directories that are open at once.
inline constexpr std::size_t kMaxJobs = 256;

/// One consumer. Reads ahead with threads of its own, which end with the object.
class MemberSource {
 public:
  virtual ~MemberSource() = default;

  /// The next step; nothing at the end. After an error the source is good for nothing but
  /// destruction.
  [[nodiscard]] virtual Result<std::optional<Item>> next() = 0;

  /// From now on payloads read ahead are prepared for `container`. Called at most once.
  virtual void prepare_for(Container container) = 0;

  /// Share of the source that has been handed out, 0 to 1; negative if nobody knows.
  [[nodiscard]] virtual double fraction() const = 0;
};

/// Appended to the message of a source file that could not be read whole and unchanged.
inline constexpr const char* kReadRemedy =
    "; try: --ignore-failed-read, or pack a snapshot of the directory";

}  // namespace shardfs
