// Which bytes of the tar stream are no headers: for checking every byte of a shard.
#pragma once

#include <cstdint>
#include <vector>

#include "fs/base/result.h"
#include "fs/tree/index.h"
#include "fs/tree/tree.h"

namespace shardfs {

/// 16 bytes a file with data. Immutable; any thread.
class DataMap {
 public:
  enum class Kind : std::uint32_t {
    File,     ///< data of an entry
    Dropped,  ///< data of a member that another one of its name replaced
    Index,    ///< index headers or the trailer
  };
  struct Range {
    std::uint64_t position = 0;  ///< in the tar stream, bytes
    std::uint64_t size = 0;
    Kind kind = Kind::File;
    std::uint32_t number = 0;  ///< the entry, row of DROPPED, or place in `index_headers`
    [[nodiscard]] std::uint64_t end() const { return position + size; }
  };

  /// All files of `tree`, the rows of DROPPED, and `index_headers`, of which only position and size
  /// count. Corrupt (without a file's name) if any two overlap or one reaches beyond `limit`.
  /// `tree` must outlive it.
  [[nodiscard]] static Result<DataMap> make(const Tree& tree, const Index& index,
                                            const std::vector<Range>& index_headers,
                                            std::uint64_t limit);

  [[nodiscard]] std::size_t size() const { return places_.size(); }
  [[nodiscard]] Range operator[](std::size_t i) const;
  /// Number of the first range that ends behind `position`; size() if there is none.
  [[nodiscard]] std::size_t first_behind(std::uint64_t position) const;

 private:
  struct Place {
    std::uint64_t position = 0;
    Kind kind = Kind::File;
    std::uint32_t number = 0;
  };

  explicit DataMap(const Tree& tree) : tree_(&tree) {}
  [[nodiscard]] Result<void> add_files(std::uint64_t limit);
  void add_dropped(ByteSpan rows);
  [[nodiscard]] Result<void> check(std::uint64_t limit) const;

  const Tree* tree_;
  std::vector<Place> places_;                               ///< ascending, apart
  std::vector<std::uint64_t> dropped_sizes_, index_sizes_;  ///< by number
};

}  // namespace shardfs
