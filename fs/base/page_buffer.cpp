#include "fs/base/page_buffer.h"

#include <cstdint>
#include <new>

#include <sys/mman.h>

#include "fs/base/bytes.h"

namespace shardfs {

namespace {
constexpr std::size_t kHugePage = 2 * 1024 * 1024;
}

// What needs no huge page comes from the heap, where a sanitizer sees what runs over its end.
PageBuffer::PageBuffer(std::size_t size) : size_(size) {
  if (size < kHugePage) {
    data_ = new std::byte[size]();
    return;
  }
  mapped_ = round_up(size, kHugePage) + kHugePage;
  map_ = ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map_ == MAP_FAILED) throw std::bad_alloc();
  const std::uintptr_t at = round_up(reinterpret_cast<std::uintptr_t>(map_), kHugePage);
  data_ = reinterpret_cast<std::byte*>(at);
  ::madvise(data_, round_up(size, kHugePage), MADV_HUGEPAGE);
}

PageBuffer::~PageBuffer() {
  if (mapped_ != 0) {
    ::munmap(map_, mapped_);
  } else {
    delete[] data_;
  }
}

}  // namespace shardfs
