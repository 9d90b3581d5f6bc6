#pragma once

// Zeroed, page-aligned memory with one owner, taken from the system as it is touched, in huge pages
// where there are some.

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace shoal::device {

// Movable, not copyable. Errors: kInvalidArgument if the memory cannot be mapped, with the size.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t bytes);
  ~Buffer();
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace shoal::device
