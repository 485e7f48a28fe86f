// Reading and writing of small wire formats: variable-length integers over byte vectors. Readers never run over the end and say so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

namespace netvm {

/// Seven bits a byte, low ones first; the top bit says that more follow.
inline void put_varint(std::vector<std::byte>& out, std::uint64_t value) {
  while (value >= 0x80) {
    out.push_back(static_cast<std::byte>(value | 0x80));
    value >>= 7;
  }
  out.push_back(static_cast<std::byte>(value));
}

template <class T>
void put_raw(std::vector<std::byte>& out, const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  const std::size_t at = out.size();
  out.resize(at + sizeof(T));  // not insert(): g++ 12 then warns of overflows that there are not
  std::memcpy(out.data() + at, &value, sizeof(T));
}

/// Takes values from the front. After the first failure everything fails and ok() is false.
class WireReader {
 public:
  explicit WireReader(std::span<const std::byte> bytes) : rest_(bytes) {}

  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] bool at_end() const { return rest_.empty(); }
  [[nodiscard]] std::span<const std::byte> rest() const { return rest_; }

  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (rest_.empty()) return fail();
      const auto byte = static_cast<std::uint8_t>(rest_.front());
      rest_ = rest_.subspan(1);
      const std::uint64_t bits = byte & 0x7fU;
      if (shift == 63 && bits > 1) return fail();
      value |= bits << shift;
      if ((byte & 0x80U) == 0) return value;
    }
    return fail();
  }

  template <class T>
  bool raw(T* value) {
    static_assert(std::is_trivially_copyable_v<T>);
    if (!ok_ || rest_.size() < sizeof(T)) return fail() != 0;
    std::memcpy(value, rest_.data(), sizeof(T));
    rest_ = rest_.subspan(sizeof(T));
    return true;
  }

  std::span<const std::byte> bytes(std::uint64_t count) {
    if (!ok_ || count > rest_.size()) {
      fail();
      return {};
    }
    const auto taken = rest_.first(static_cast<std::size_t>(count));
    rest_ = rest_.subspan(static_cast<std::size_t>(count));
    return taken;
  }

 private:
  std::uint64_t fail() {
    ok_ = false;
    rest_ = {};
    return 0;
  }
  std::span<const std::byte> rest_;
  bool ok_ = true;
};

}  // namespace netvm
