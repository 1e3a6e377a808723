// Packing, opening and asking an index of a million files, on five shapes of names.
#include <algorithm>
#include <map>

#include <benchmark/benchmark.h>

#include "tests/tree/shapes.h"

namespace shardfs {
namespace {

constexpr std::uint32_t kFiles = 1'000'000;

const Bytes& index_of(Shape shape) {
  static std::map<Shape, Bytes> made;
  Bytes& bytes = made[shape];
  if (bytes.empty()) {
    auto parts = pack_shape(shape, kFiles).value();
    bytes = encode_index(parts.superblock, parts.sections);
  }
  return bytes;
}

Bytes tree_bytes(Shape shape) {
  const Bytes& all = index_of(shape);
  const std::size_t size = Superblock::encoded_size(all).value();
  const auto superblock = Superblock::decode(ByteSpan(all).first(size)).value();
  return Bytes(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(superblock.tree_size()));
}

Shape shape_of(const benchmark::State& state) { return static_cast<Shape>(state.range(0)); }

void pack(benchmark::State& state) {
  std::vector<Member> members;
  ShapeMaker maker(shape_of(state), kFiles);
  for (std::uint32_t i = 0; i < kFiles; ++i) members.push_back(maker.next());
  if (state.range(1) != 0) std::ranges::shuffle(members, std::mt19937(1));
  for (auto _ : state) {
    Packer packer;
    for (const Member& member : members) packer.add(member).value();
    benchmark::DoNotOptimize(packer.finish().value());
  }
}
BENCHMARK(pack)->ArgsProduct({{0, 2, 3}, {0, 1}})->Unit(benchmark::kMillisecond)->Iterations(1);

/// Everything that a mount does with the index but reading it.
void open(benchmark::State& state) {
  Index index = Index::decode(ByteSpan(tree_bytes(shape_of(state)))).value();
  state.counters["bytes_a_file"] = static_cast<double>(index_of(shape_of(state)).size()) / kFiles;
  for (auto _ : state) {
    index = Index::decode(std::move(index.bytes)).value();
    benchmark::DoNotOptimize(Tree::open(index).value());
  }
}
BENCHMARK(open)->DenseRange(0, 4)->Unit(benchmark::kMillisecond)->UseRealTime();

void structure_checks(benchmark::State& state) {
  const BuiltTree built = open_index(tree_bytes(shape_of(state)));
  for (auto _ : state) benchmark::DoNotOptimize(Tree::open(*built.index).value());
}
BENCHMARK(structure_checks)->DenseRange(0, 4)->Unit(benchmark::kMillisecond);

/// Random files: what FUSE's LOOKUP asks.
void lookup_and_attributes(benchmark::State& state) {
  const BuiltTree built = open_index(tree_bytes(shape_of(state)));
  std::mt19937 random(7);
  std::vector<std::pair<Entry, std::string>> wanted;
  while (wanted.size() < 100'000) {
    const Entry entry = 1 + random() % (built.tree.entries() - 1);
    const std::string path = built.tree.path(entry).value();
    wanted.emplace_back(built.tree.parent(entry), path.substr(path.rfind('/') + 1));
  }
  std::size_t i = 0;
  for (auto _ : state) {
    const auto& [directory, name] = wanted[i++ % wanted.size()];
    const Entry entry = built.tree.lookup(directory, name).value();
    benchmark::DoNotOptimize(built.tree.attributes(entry).value());
  }
}
BENCHMARK(lookup_and_attributes)->DenseRange(0, 4);

void position(benchmark::State& state) {
  const BuiltTree built = open_index(tree_bytes(shape_of(state)));
  std::mt19937 random(7);
  for (auto _ : state)
    benchmark::DoNotOptimize(
        built.tree.position(static_cast<Entry>(random() % built.tree.entries())).value());
}
BENCHMARK(position)->DenseRange(0, 0);

/// The whole tree by readdirplus: time a file.
void walk(benchmark::State& state) {
  const BuiltTree built = open_index(tree_bytes(shape_of(state)));
  const Tree& tree = built.tree;
  std::uint64_t entries = 0;
  for (auto _ : state) {
    for (Entry e = 0; e < tree.entries(); ++e) {
      if (!S_ISDIR(tree.attributes(e)->mode)) continue;
      const auto visit = [&](Entry child, std::string_view) {
        benchmark::DoNotOptimize(tree.attributes(child).value());
        return ++entries != 0;
      };
      if (!tree.children(e, 0, visit)) state.SkipWithError("damaged");
    }
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(entries));
}
BENCHMARK(walk)->DenseRange(0, 4)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace shardfs

BENCHMARK_MAIN();
