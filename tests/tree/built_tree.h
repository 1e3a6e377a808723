// Trees for tests: members in, an opened index out.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "fs/base/checksum.h"
#include "fs/tree/builder.h"
#include "fs/tree/index.h"
#include "fs/tree/tree.h"

namespace shardfs {

struct BuiltTree {
  std::unique_ptr<Index> index;
  Tree tree;
};

inline Member file(std::string path, std::uint64_t size = 0) {
  Member member;
  member.path = std::move(path);
  member.mode = S_IFREG | 0644;
  member.size = size;
  return member;
}

inline Member directory(std::string path) {
  Member member = file(std::move(path));
  member.mode = S_IFDIR | 0755;
  return member;
}

inline Member symlink_to(std::string path, std::string text) {
  Member member = file(std::move(path));
  member.mode = S_IFLNK | 0777;
  member.link = std::move(text);
  return member;
}

inline Member hard_link_to(std::string path, std::string target) {
  Member member;
  member.path = std::move(path);
  member.hard_link = true;
  member.link = std::move(target);
  return member;
}

/// A checksum that tells piece `k` of member `number` from all others.
inline std::uint64_t piece_of(std::uint32_t number, std::uint64_t k) {
  return std::uint64_t{number} << 32 | k;
}

/// Adds members as a writer does: each stands behind the one before, a header block in front.
class Packer {
 public:
  Result<std::uint32_t> add(const Member& member) {
    auto number = builder_.add(member);
    if (!number) return number;
    position_ += 512;
    if (member.is_regular() && member.size != 0) {
      std::vector<std::uint64_t> pieces;
      for (std::uint64_t k = 0; k * 65536 < member.size; ++k)
        pieces.push_back(piece_of(*number, k));
      builder_.set_data(*number, position_, pieces);
      position_ += round_up(member.size, 512);
    }
    return number;
  }
  Result<IndexParts> finish(std::span<const std::uint32_t> wanted = {}) {
    return builder_.finish(nullptr, wanted);
  }

 private:
  TreeBuilder builder_;
  std::uint64_t position_ = 0;
};

inline Result<IndexParts> pack(const std::vector<Member>& members,
                               std::span<const std::uint32_t> wanted = {}) {
  Packer packer;
  for (const Member& member : members)
    if (auto added = packer.add(member); !added) return std::unexpected(added.error());
  return packer.finish(wanted);
}

inline Bytes pack_index(const std::vector<Member>& members) {
  auto parts = pack(members);
  if (!parts) throw std::runtime_error(parts.error().message);
  return encode_index(parts->superblock, parts->sections);
}

inline BuiltTree open_index(Bytes bytes) {
  auto index = Index::decode(std::move(bytes));
  if (!index) throw std::runtime_error(index.error().message);
  auto owned = std::make_unique<Index>(std::move(*index));
  auto tree = Tree::open(*owned);
  if (!tree) throw std::runtime_error(tree.error().message);
  return {std::move(owned), std::move(*tree)};
}

inline BuiltTree build_tree(const std::vector<Member>& members) {
  return open_index(pack_index(members));
}

/// Paths of the whole tree, directories before what is in them, each as path() gives it.
inline std::vector<std::string> all_paths(const Tree& tree) {
  std::vector<std::string> paths;
  for (Entry e = 0; e < tree.entries(); ++e) paths.push_back(tree.path(e).value());
  return paths;
}

inline std::vector<std::string> names_in(const Tree& tree, Entry directory,
                                         std::uint64_t first = 0) {
  std::vector<std::string> names;
  const auto done = tree.children(directory, first, [&](Entry, std::string_view name) {
    names.emplace_back(name);
    return true;
  });
  EXPECT_TRUE(done.has_value());
  return names;
}

}  // namespace shardfs
