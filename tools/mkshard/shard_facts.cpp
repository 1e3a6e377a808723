#include "tools/mkshard/shard_facts.h"

#include <utility>

#include "fs/archive/shard/reader.h"
#include "fs/base/byte_source.h"

namespace shardfs {

ShardFacts::ShardFacts(const std::string& path) {
  auto source = FileSource::open(path);
  if (!source) return;
  if (auto shard = open_shard(*std::move(source))) shard_ = *std::move(shard);
}

std::optional<Member> ShardFacts::root() const {
  if (!shard_) return std::nullopt;
  const auto attributes = shard_->tree().attributes(0);
  const auto xattrs = shard_->tree().xattrs(0);
  if (!attributes || !xattrs) return std::nullopt;
  Member member;
  member.mode = attributes->mode;
  member.uid = attributes->uid;
  member.gid = attributes->gid;
  member.mtime = attributes->mtime;
  for (const Xattr& xattr : *xattrs)
    member.xattrs.emplace_back(xattr.name, Bytes(xattr.value.begin(), xattr.value.end()));
  return member;
}

// Another member of the same path, which the tree does not show, has another time or size.
void ShardFacts::complete(Member& member) const {
  if (!shard_) return;
  const Tree& tree = shard_->tree();
  const auto entry = tree.find(member.path);
  if (!entry) return;
  const auto attributes = tree.attributes(*entry);
  if (!attributes || attributes->mtime.seconds != member.mtime.seconds) return;
  member.mtime = attributes->mtime;
  if (!member.is_regular() || member.hard_link || attributes->size != member.size) return;
  if (auto holes = tree.holes(*entry)) member.holes = *std::move(holes);
}

}  // namespace shardfs
