// Files into device memory: every route of ours beside the loop that programs write, and beside
// what the machine can do at most. Prints a line of JSON for each figure. Run by tests/gpu/run.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <cuda_runtime_api.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "cuda/shardfs_gpu.h"

namespace {

using Clock = std::chrono::steady_clock;
using Work = std::function<void()>;

[[noreturn]] void stop(const std::string& what) {
  fmt::print(stderr, "bench_gpu: {}\n", what);
  std::exit(2);
}

void check(cudaError_t code, const char* what) {
  if (code != cudaSuccess) stop(fmt::format("{}: {}", what, cudaGetErrorString(code)));
}

double seconds(const Work& work) {
  const auto start = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

void in_threads(unsigned count, const std::function<void(unsigned)>& work) {
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < count; ++i) threads.emplace_back([&, i] { work(i); });
  for (std::thread& thread : threads) thread.join();
}

/// Batches of files of one size, extracted and in two archives.
struct Set {
  std::string name;
  std::uint64_t size = 0;  ///< of a file, bytes
  unsigned batch = 0;      ///< files
  unsigned batches = 0;
  std::vector<std::string> paths;
  [[nodiscard]] std::uint64_t bytes() const { return size * batch * batches; }
};

std::string path_of(const Set& set, unsigned file) {
  return fmt::format("{}/{:03}/{:05}.bin", set.name, file / 1000, file);
}

void write_files(const std::string& directory, Set& set) {
  const unsigned files = set.batch * set.batches;
  for (unsigned i = 0; i < files; ++i) set.paths.push_back(path_of(set, i));
  for (unsigned i = 0; i < files; i += 1000)
    std::filesystem::create_directories(
        std::filesystem::path(directory + "/" + set.paths[i]).parent_path());
  in_threads(16, [&](unsigned thread) {
    std::vector<std::uint64_t> data((std::min<std::uint64_t>(set.size, 64 << 20) + 7) / 8);
    std::mt19937_64 random(thread + 1);
    for (std::uint64_t& word : data) word = random();
    for (unsigned i = thread; i < files; i += 16) {
      std::ofstream out(directory + "/" + set.paths[i], std::ios::binary);
      for (std::uint64_t done = 0; done < set.size;) {
        data[0] = i + done;  // no two files are the same
        const std::uint64_t part = std::min<std::uint64_t>(set.size - done, data.size() * 8);
        out.write(reinterpret_cast<const char*>(data.data()), static_cast<std::streamsize>(part));
        done += part;
      }
      if (!out.flush()) stop("cannot write " + set.paths[i]);
    }
  });
}

/// Out of the page cache, whatever else is in it.
void forget(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) stop("cannot open " + path);
  ::fdatasync(fd);
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  ::close(fd);
}

std::uint64_t read_whole(int fd, std::byte* to, std::uint64_t size) {
  std::uint64_t done = 0;
  while (done < size) {
    const ssize_t got = ::read(fd, to + done, size - done);
    if (got <= 0) break;
    done += static_cast<std::uint64_t>(got);
  }
  return done;
}

/// What programs write: open, read into ordinary memory, cudaMemcpy.
void loop(const std::string& directory, const Set& set, std::byte* device) {
  std::vector<std::byte> host(std::min<std::uint64_t>(set.size, 256 << 20));
  for (unsigned batch = 0; batch < set.batches; ++batch) {
    std::uint64_t at = 0;
    for (unsigned i = 0; i < set.batch; ++i) {
      const int fd = ::open((directory + "/" + set.paths[batch * set.batch + i]).c_str(),
                            O_RDONLY | O_CLOEXEC);
      for (std::uint64_t done = 0; done < set.size;) {
        const std::uint64_t got =
            read_whole(fd, host.data(), std::min<std::uint64_t>(host.size(), set.size - done));
        check(cudaMemcpy(device + at, host.data(), got, cudaMemcpyHostToDevice), "cudaMemcpy");
        done += got;
        at += got;
      }
      ::close(fd);
    }
  }
}

/// An opened archive, and how its batches are read.
class Ours {
 public:
  Ours(const std::string& archive, bool verify, const char* route, unsigned readers = 0,
       std::uint64_t staging = 0) {
    shardfs_options options;
    shardfs_options_init(&options);
    options.tier = "none";
    options.verify = verify ? 1 : 0;
    options.route = route;
    options.readers = readers;
    if (staging != 0) options.staging_bytes = staging;
    shardfs_error error{};
    if (shardfs_open(archive.c_str(), &options, &dataset_, &error) != 0) stop(error.message);
  }
  Ours(const Ours&) = delete;
  Ours& operator=(const Ours&) = delete;
  ~Ours() { shardfs_close(dataset_); }

  /// `ahead`: batches that are submitted before the one that is waited for.
  void read(const Set& set, std::byte* to, unsigned ahead, int device = 0) {
    std::vector<std::vector<shardfs_read>> reads(ahead + 1);
    std::vector<shardfs_batch*> pending(ahead + 1);
    shardfs_error error{};
    const std::uint64_t batch_bytes = set.size * set.batch;
    const auto finish = [&](unsigned batch) {
      if (shardfs_wait(pending[batch % (ahead + 1)], &error) != 0) stop(error.message);
      shardfs_batch_drop(pending[batch % (ahead + 1)]);
      route_ = reads[batch % (ahead + 1)].back().route;
    };
    for (unsigned batch = 0; batch < set.batches; ++batch) {
      auto& mine = reads[batch % (ahead + 1)];
      if (batch > ahead) finish(batch - ahead - 1);
      mine.assign(set.batch, {});
      for (unsigned i = 0; i < set.batch; ++i) {
        mine[i].path = set.paths[batch * set.batch + i].c_str();
        mine[i].buffer = to + batch_bytes * (batch % (ahead + 1)) + set.size * i;
        mine[i].length = SHARDFS_TO_END;
      }
      if (shardfs_submit(dataset_, device, mine.data(), mine.size(), nullptr, 0,
                         &pending[batch % (ahead + 1)], &error) != 0)
        stop(error.message);
    }
    for (unsigned batch = set.batches > ahead ? set.batches - ahead - 1 : 0; batch < set.batches;
         ++batch)
      finish(batch);
  }

  [[nodiscard]] const char* route() const {
    return shardfs_route_name(static_cast<shardfs_route>(route_));
  }

 private:
  shardfs_dataset* dataset_ = nullptr;
  int route_ = 0;
};

/// Of pinned memory, in copies of so many bytes.
double copy_ceiling(std::byte* device, std::uint64_t bytes) {
  void* pinned = nullptr;
  check(cudaHostAlloc(&pinned, bytes, cudaHostAllocDefault), "pinned memory");
  std::memset(pinned, 1, bytes);
  const unsigned copies = static_cast<unsigned>(std::max<std::uint64_t>(4, (8ULL << 30) / bytes));
  std::vector<double> rates;
  for (int round = 0; round < 3; ++round) {
    rates.push_back(
        static_cast<double>(bytes) * copies / seconds([&] {
          for (unsigned i = 0; i < copies; ++i)
            check(cudaMemcpyAsync(device, pinned, bytes, cudaMemcpyHostToDevice, nullptr), "copy");
          check(cudaDeviceSynchronize(), "copy");
        }));
  }
  check(cudaFreeHost(pinned), "pinned memory");
  return median(rates);
}

/// Of reading the archive, in order, 4 MiB at a time by 16 threads into memory that is there.
double storage_ceiling(const std::string& archive, std::uint64_t most, bool direct) {
  constexpr std::uint64_t kRequest = 4 << 20;
  const int fd = ::open(archive.c_str(), O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0));
  if (fd < 0) return 0;
  const std::uint64_t size = std::min<std::uint64_t>(std::filesystem::file_size(archive), most);
  const std::uint64_t requests = size / kRequest;
  std::atomic<std::uint64_t> next{0};
  const double took = seconds([&] {
    in_threads(16, [&](unsigned) {
      void* const memory = std::aligned_alloc(4096, kRequest);
      for (std::uint64_t i = next++; i < requests; i = next++) {
        if (::pread(fd, memory, kRequest, static_cast<off_t>(i * kRequest)) < 0) stop("pread");
      }
      std::free(memory);
    });
  });
  ::close(fd);
  return static_cast<double>(requests * kRequest) / took;
}

void tell(const std::string& set, const std::string& way, const std::string& state, double rate) {
  fmt::print("{{\"set\": \"{}\", \"way\": \"{}\", \"state\": \"{}\", \"gb_s\": {:.2f}}}\n", set,
             way, state, rate / 1e9);
  std::fflush(stdout);
}

struct Way {
  std::string name;
  Work work;
  Work forget;
};

/// What readers and staging memory do, for whoever chooses the defaults.
void sweep(const std::vector<Set>& sets, const std::string& tar, std::byte* device) {
  for (const Set& set : sets) {
    for (const unsigned readers : {8U, 12U, 14U, 16U}) {
      for (const std::uint64_t staging : {1ULL << 20, 4ULL << 20}) {
        Ours ours(tar, true, nullptr, readers, staging);
        const unsigned ahead = set.batches == 1 ? 0 : 4;
        ours.read(set, device, ahead);
        std::vector<double> rates;
        for (int round = 0; round < 3; ++round)
          rates.push_back(static_cast<double>(set.bytes()) /
                          seconds([&] { ours.read(set, device, ahead); }));
        tell(set.name, fmt::format("{} readers, {} KiB", readers, staging >> 10), "warm",
             median(rates));
      }
    }
  }
}

void measure(const Set& set, std::vector<Way>& ways, bool cold, unsigned rounds) {
  std::vector<std::vector<double>> rates(ways.size());
  if (!cold) {
    for (Way& way : ways) way.work();
  }
  for (unsigned round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < ways.size(); ++i) {
      if (cold) ways[i].forget();
      rates[i].push_back(static_cast<double>(set.bytes()) / seconds(ways[i].work));
    }
  }
  for (std::size_t i = 0; i < ways.size(); ++i)
    tell(set.name, ways[i].name, cold ? "cold" : "warm", median(rates[i]));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) stop("usage: bench_gpu DIRECTORY MKSHARD [ROUNDS [sweep]]");
  const std::string directory = argv[1], mkshard = argv[2];
  const unsigned rounds = argc > 3 ? static_cast<unsigned>(std::atoi(argv[3])) : 5;
  const std::string files = directory + "/files";
  std::vector<Set> sets{{"20KB", 20'000, 256, 96, {}},
                        {"110KB", 110'000, 256, 48, {}},
                        {"1MB", 1'000'000, 256, 8, {}},
                        {"4GB", 4'000'000'000, 1, 1, {}}};
  const std::string tar = directory + "/data.tar", zst = directory + "/data.tar.zst";
  const bool is_made = std::filesystem::exists(zst);
  for (Set& set : sets) {
    if (!is_made) write_files(files, set);
    if (is_made)
      for (unsigned i = 0; i < set.batch * set.batches; ++i) set.paths.push_back(path_of(set, i));
  }
  if (!is_made) {
    for (const std::string& archive : {tar, zst}) {
      const std::string exclude = archive == zst ? " --exclude 4GB" : "";
      if (std::system(
              fmt::format("{} {} -o {} -q --force{}", mkshard, files, archive, exclude).c_str()) !=
          0)
        stop("mkshard failed");
    }
  }
  void* memory = nullptr;
  check(cudaMalloc(&memory, 5ULL << 30), "device memory");
  auto* const device = static_cast<std::byte*>(memory);
  auto* const host = static_cast<std::byte*>(std::aligned_alloc(4096, 1ULL << 30));
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "device");
  fmt::print("{{\"device\": \"{}\"}}\n", properties.name);

  for (const std::uint64_t bytes : {256ULL << 10, 1ULL << 20, 4ULL << 20, 64ULL << 20})
    tell("ceiling", fmt::format("pinned copy of {} KiB", bytes >> 10), "-",
         copy_ceiling(device, bytes));
  forget(tar);
  tell("ceiling", "storage, O_DIRECT", "cold", storage_ceiling(tar, 4ULL << 30, true));
  forget(tar);
  tell("ceiling", "storage, page cache", "cold", storage_ceiling(tar, 4ULL << 30, false));
  storage_ceiling(tar, UINT64_MAX, false);
  tell("ceiling", "page cache", "warm", storage_ceiling(tar, UINT64_MAX, false));

  if (argc > 4 && std::string(argv[4]) == "sweep") {
    sweep(sets, tar, device);
    return 0;
  }
  for (Set& set : sets) {
    const auto forget_files = [&] {
      for (const std::string& path : set.paths) forget(files + "/" + path);
    };
    const auto of = [&](const std::string& name, std::shared_ptr<Ours> ours,
                        const std::string& archive, unsigned ahead) {
      return Way{name, [&set, ours, device, ahead] { ours->read(set, device, ahead); },
                 [archive] { forget(archive); }};
    };
    const auto pinned = std::make_shared<Ours>(tar, true, nullptr);
    const auto unchecked = std::make_shared<Ours>(tar, false, nullptr);
    const auto gds = std::make_shared<Ours>(tar, false, "gds");
    std::vector<Way> ways;
    ways.push_back({"read()+cudaMemcpy", [&] { loop(files, set, device); }, forget_files});
    const bool is_large = set.batches == 1;
    ways.push_back(of("tar, one at a time", pinned, tar, 0));
    if (!is_large) {
      ways.push_back(of("tar, two ahead", pinned, tar, 2));
      ways.push_back(of("tar, four ahead", pinned, tar, 4));
      ways.push_back({"tar, host memory, two ahead",
                      [&set, pinned, host] { pinned->read(set, host, 2, SHARDFS_HOST); },
                      [tar] { forget(tar); }});
    }
    ways.push_back(of("tar, verify=0", unchecked, tar, is_large ? 0 : 2));
    if (!is_large)
      ways.push_back(of("tar.zst, two ahead", std::make_shared<Ours>(zst, true, nullptr), zst, 2));
    ways.push_back(of("tar, route=gds", gds, tar, is_large ? 0 : 2));
    measure(set, ways, false, rounds);
    // The storage is the same for all: these tell what is worth knowing.
    std::erase_if(ways, [&](const Way& way) {
      return way.name != "read()+cudaMemcpy" && way.name != "tar, route=gds" &&
             way.name != (is_large ? "tar, one at a time" : "tar, two ahead");
    });
    measure(set, ways, true, std::min(rounds, 2U));
    fmt::print("{{\"set\": \"{}\", \"routes\": [\"{}\", \"{}\", \"{}\"]}}\n", set.name,
               pinned->route(), unchecked->route(), gds->route());
  }
  return 0;
}
