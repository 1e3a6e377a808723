#include "fs/archive/shard/data_map.h"

#include <algorithm>

#include "fs/base/bytes.h"

namespace shardfs {

namespace {

constexpr std::size_t kDroppedRow = 16;

std::unexpected<Error> misplaced() {
  return fail(ErrorKind::Corrupt, "index: data overlap or lie outside the archive");
}

}  // namespace

Result<DataMap> DataMap::make(const Tree& tree, const Index& index,
                              const std::vector<Range>& index_headers, std::uint64_t limit) {
  DataMap map(tree);
  SHARDFS_CHECK(map.add_files(limit));
  map.add_dropped(index.section(Section::Dropped));
  for (const Range& range : index_headers) {
    const auto number = static_cast<std::uint32_t>(map.index_sizes_.size());
    map.index_sizes_.push_back(range.size);
    if (range.size > 0) map.places_.push_back({range.position, Kind::Index, number});
  }
  std::ranges::sort(map.places_, {}, &Place::position);
  SHARDFS_CHECK(map.check(limit));
  return map;
}

Result<void> DataMap::add_files(std::uint64_t limit) {
  std::uint64_t left = limit;
  for (std::uint64_t e = 0; e < tree_->entries(); ++e) {
    const auto entry = static_cast<Entry>(e);
    const std::uint64_t size = tree_->file_size(entry);
    if (size == 0) continue;
    if (size > left) return misplaced();  // before a hostile index makes this map huge
    left -= size;
    SHARDFS_TRY(const std::uint64_t position, tree_->position(entry));
    places_.push_back({position, Kind::File, entry});
  }
  return {};
}

void DataMap::add_dropped(ByteSpan rows) {
  for (std::size_t at = 0; at + kDroppedRow <= rows.size(); at += kDroppedRow) {
    const auto number = static_cast<std::uint32_t>(dropped_sizes_.size());
    places_.push_back({load<std::uint64_t>(rows.data() + at), Kind::Dropped, number});
    dropped_sizes_.push_back(load<std::uint64_t>(rows.data() + at + 8));
  }
}

Result<void> DataMap::check(std::uint64_t limit) const {
  std::uint64_t end = 0;
  for (std::size_t i = 0; i < size(); ++i) {
    const Range range = (*this)[i];
    if (range.position < end || range.position > limit || range.size > limit - range.position)
      return misplaced();
    end = range.end();
  }
  return {};
}

DataMap::Range DataMap::operator[](std::size_t i) const {
  const Place& place = places_[i];
  std::uint64_t size = 0;
  switch (place.kind) {
    case Kind::File:
      size = tree_->file_size(place.number);
      break;
    case Kind::Dropped:
      size = dropped_sizes_[place.number];
      break;
    case Kind::Index:
      size = index_sizes_[place.number];
      break;
  }
  return {place.position, size, place.kind, place.number};
}

std::size_t DataMap::first_behind(std::uint64_t position) const {
  const auto next = std::ranges::upper_bound(places_, position, {}, &Place::position);
  const auto i = static_cast<std::size_t>(next - places_.begin());
  return i > 0 && (*this)[i - 1].end() > position ? i - 1 : i;
}

}  // namespace shardfs
