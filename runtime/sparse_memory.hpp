// Sparse memory: zeroed arrays as long as the address range allows, of which only what is touched costs memory.
//
// Invariants
//  1. Elements begin as all-zero bytes, which must be a valid value of T.
//  2. Nothing is ever moved: addresses of elements stay.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace netvm {

/// Private anonymous memory without reservation. bytes() == 0 where the kernel refused (or none was asked for).
class SparseMemory {
 public:
  SparseMemory() = default;
  explicit SparseMemory(std::uint64_t bytes);
  ~SparseMemory();
  SparseMemory(const SparseMemory&) = delete;
  SparseMemory& operator=(const SparseMemory&) = delete;
  SparseMemory(SparseMemory&& other) noexcept : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  SparseMemory& operator=(SparseMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::uint64_t bytes_ = 0;
};

/// An array of `size` elements in sparse memory. valid() is false where the kernel refused.
template <class T>
class SparseArray {
  static_assert(std::is_trivially_destructible_v<T>, "elements are given back without being destroyed");

 public:
  SparseArray() = default;
  // NOLINTNEXTLINE(bugprone-sizeof-expression): T may be a pointer
  explicit SparseArray(std::uint64_t size) : memory_(size * sizeof(T)), size_(size) {}

  [[nodiscard]] bool valid() const { return size_ == 0 || memory_.bytes() != 0; }
  [[nodiscard]] std::uint64_t size() const { return size_; }
  T& operator[](std::uint64_t i) const { return reinterpret_cast<T*>(memory_.data())[i]; }

 private:
  SparseMemory memory_;
  std::uint64_t size_ = 0;
};

}  // namespace netvm
