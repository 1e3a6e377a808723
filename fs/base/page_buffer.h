#pragma once

#include <cstddef>
#include <span>
#include <utility>

namespace shardfs {

/// A large run of writable bytes, zero at first, in huge pages where the system gives them: the
/// page faults of 36 MB in small pages take several times as long as filling them. Move-only.
class PageBuffer {
 public:
  PageBuffer() = default;
  /// `size` bytes. Throws std::bad_alloc.
  explicit PageBuffer(std::size_t size);
  PageBuffer(PageBuffer&& other) noexcept { swap(other); }
  PageBuffer& operator=(PageBuffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~PageBuffer();

  [[nodiscard]] std::byte* data() { return data_; }
  [[nodiscard]] const std::byte* data() const { return data_; }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] std::byte* begin() { return data_; }
  [[nodiscard]] std::byte* end() { return data_ + size_; }
  [[nodiscard]] const std::byte* begin() const { return data_; }
  [[nodiscard]] const std::byte* end() const { return data_ + size_; }

 private:
  void swap(PageBuffer& other) noexcept {
    std::swap(map_, other.map_);
    std::swap(mapped_, other.mapped_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }

  void* map_ = nullptr;
  std::size_t mapped_ = 0;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace shardfs
