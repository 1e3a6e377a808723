#include "cuda/kernels.h"

namespace shardfs {
namespace {

// As device.h has it, which is written in a later standard than this compiler knows.
struct Move {
  std::uint64_t from, to, length;
};

constexpr unsigned kThreads = 256;
// Blocks a piece: 256 threads keep some 20 KB in flight, and a piece may be megabytes.
constexpr unsigned kBlocksPerPiece = 16;

// `from` and `to` have the same remainder by sizeof(Word).
template <typename Word>
__device__ void move_words(const unsigned char* from, unsigned char* to, std::uint64_t length,
                           std::uint64_t thread, std::uint64_t threads) {
  const std::uint64_t misaligned = reinterpret_cast<std::uint64_t>(to) % sizeof(Word);
  std::uint64_t head = misaligned == 0 ? 0 : sizeof(Word) - misaligned;
  if (head > length) head = length;
  const std::uint64_t words = (length - head) / sizeof(Word);
  const std::uint64_t tail = head + words * sizeof(Word);
  if (thread < head) to[thread] = from[thread];
  const Word* const source = reinterpret_cast<const Word*>(from + head);
  Word* const target = reinterpret_cast<Word*>(to + head);
  for (std::uint64_t i = thread; i < words; i += threads) target[i] = source[i];
  if (thread < length - tail) to[tail + thread] = from[tail + thread];
}

__global__ void scatter(const Move* moves) {
  const Move move = moves[blockIdx.x];
  const auto* const from = reinterpret_cast<const unsigned char*>(move.from);
  auto* const to = reinterpret_cast<unsigned char*>(move.to);
  const std::uint64_t thread = std::uint64_t{blockIdx.y} * blockDim.x + threadIdx.x;
  const std::uint64_t threads = std::uint64_t{gridDim.y} * blockDim.x;
  const std::uint64_t apart = move.from ^ move.to;
  if (apart % 16 == 0) {
    move_words<uint4>(from, to, move.length, thread, threads);
  } else if (apart % 4 == 0) {
    move_words<unsigned int>(from, to, move.length, thread, threads);
  } else {
    move_words<unsigned char>(from, to, move.length, thread, threads);
  }
}

}  // namespace

bool are_kernels_for_this_device() {
  cudaFuncAttributes attributes;
  const bool is = cudaFuncGetAttributes(&attributes, scatter) == cudaSuccess;
  cudaGetLastError();
  return is;
}

int launch_scatter(CUstream_st* stream, std::uint64_t table, std::uint32_t count) {
  const dim3 grid(count, kBlocksPerPiece);
  cudaGetLastError();  // of an earlier call: only another error takes its place
  scatter<<<grid, kThreads, 0, stream>>>(reinterpret_cast<const Move*>(table));
  return static_cast<int>(cudaGetLastError());
}

}  // namespace shardfs
