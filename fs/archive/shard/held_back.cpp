#include "fs/archive/shard/held_back.h"

#include <algorithm>

#include "fs/archive/shard/index_runs.h"
#include "fs/archive/shard/pieces.h"
#include "fs/archive/shard/trailer.h"

namespace shardfs {

namespace {

/// The last member and the closing zeros must leave the trailer within the last 256 KiB of the
/// file.
constexpr std::size_t kMaxBytes = 128 * 1024;
/// Bytes of the index a member takes at most, besides its name, link, pieces, xattrs and holes.
constexpr std::uint64_t kEntryBytes = 96;

/// Whether `member` would lead a reader out of a candidate's directory, upwards or down.
bool leaves(const HeldBack& candidate, const Member& member) {
  const std::size_t slash = member.path.rfind('/');
  const std::size_t parent = slash == std::string::npos ? 0 : slash + 1;
  return (!member.hard_link && member.is_directory()) ||
         std::string_view(member.path).substr(0, parent) != candidate.directory;
}

bool depends(const HeldBack& candidate, const Member& member) {
  return candidate.path == member.path || candidate.target == member.path ||
         (member.hard_link && member.link == candidate.path);
}

}  // namespace

bool Candidates::eligible(const Member& member, ByteSpan bytes) {
  if (!member.hard_link && !member.is_symlink() && !member.is_regular()) return false;
  // A reader looks for the trailer from the end: nothing behind it may look like one.
  return bytes.size() <= kMaxBytes && !as_text(bytes).contains(kTrailerMark);
}

void Candidates::count(const Member& member) {
  weight_ += kEntryBytes + member.path.size() + member.link.size() +
             pieces_of(member.size) * sizeof(std::uint64_t) + member.holes.size() * sizeof(Hole);
  for (const auto& [name, value] : member.xattrs) weight_ += 16 + name.size() + value.size();
}

std::size_t Candidates::before(const Member& member) const {
  for (std::size_t n = queue_.size(); n > 0; --n)
    if (depends(queue_[n - 1], member) || leaves(queue_[n - 1], member)) return n;
  return 0;
}

HeldBack Candidates::pop() {
  HeldBack first = std::move(queue_.front());
  queue_.pop_front();
  return first;
}

std::uint64_t Candidates::capacity() const { return IndexRuns::count_for(weight_); }

}  // namespace shardfs
