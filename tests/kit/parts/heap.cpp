// The heap on private memory, by one "node": blocks do not overlap, come back, and are recognised.
#include "apps/kit/heap.hpp"

#include <sys/mman.h>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

namespace netvm::kit {
namespace {

/// A range of addresses, handed out from its begin on. What comes back is only counted, and overwritten.
class TestMemory final : public HeapMemory {
 public:
  static constexpr std::size_t kBytes = std::size_t{256} << 20;
  TestMemory() {
    void* const at = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    REQUIRE(at != MAP_FAILED);
    base_ = next_ = static_cast<std::byte*>(at);
    Heap::open(*this, take(Heap::common_bytes(), 4096));
  }

  std::byte* take(std::size_t bytes, std::size_t alignment) override {
    const std::lock_guard guard(mutex_);
    const auto at = (reinterpret_cast<std::uintptr_t>(next_) + alignment - 1) / alignment * alignment;
    const std::uintptr_t end = reinterpret_cast<std::uintptr_t>(base_) + kBytes;
    if (at > end || bytes > end - at) return nullptr;
    next_ = reinterpret_cast<std::byte*>((at + bytes + 4095) / 4096 * 4096);
    large_[reinterpret_cast<std::byte*>(at)] = bytes;
    return reinterpret_cast<std::byte*>(at);
  }
  [[nodiscard]] bool give_back(std::byte* pages) override {
    const std::lock_guard guard(mutex_);
    return large_.erase(pages) == 1;
  }
  [[nodiscard]] bool contains(const void* at) const override {
    return reinterpret_cast<std::uintptr_t>(at) - reinterpret_cast<std::uintptr_t>(base_) < kBytes;
  }
  void lock(const std::uint64_t*) override { common_.lock(); }
  void unlock(const std::uint64_t*) override { common_.unlock(); }

 private:
  std::mutex mutex_;
  std::mutex common_;
  std::byte* base_ = nullptr;
  std::byte* next_ = nullptr;
  std::map<std::byte*, std::size_t> large_;
};

TestMemory& memory() {
  static TestMemory it;  // the heap is one for the process
  return it;
}

std::byte* get(std::size_t bytes, std::size_t alignment = 16, bool zeroed = false, const void* code = nullptr) {
  auto* const block = static_cast<std::byte*>(Heap::allocate(bytes, alignment, zeroed, code));
  REQUIRE(block != nullptr);
  return block;
}

TEST_CASE("blocks of all sizes and alignments lie apart, and keep what is written") {
  static_cast<void>(memory());
  struct Used {
    std::byte* at;
    std::size_t bytes;
    std::byte pattern;
  };
  std::mt19937 random(7);
  std::vector<Used> used;
  for (int i = 0; i < 4000; ++i) {
    if (!used.empty() && random() % 3 == 0) {
      std::swap(used[random() % used.size()], used.back());
      const Used gone = used.back();
      used.pop_back();
      REQUIRE(std::all_of(gone.at, gone.at + gone.bytes, [&](std::byte b) { return b == gone.pattern; }));
      REQUIRE(Heap::free(gone.at));
      continue;
    }
    const std::size_t alignment = std::size_t{16} << (random() % 5 == 0 ? random() % 9 : 0);
    const std::size_t bytes = random() % (random() % 50 == 0 ? 400'000 : random() % 8 == 0 ? 20'000 : 300);
    const bool zeroed = random() % 2 == 0;
    std::byte* const at = get(bytes, alignment, zeroed);
    REQUIRE(reinterpret_cast<std::uintptr_t>(at) % alignment == 0);
    REQUIRE(Heap::usable(at) >= bytes);
    if (zeroed) REQUIRE(std::all_of(at, at + bytes, [](std::byte b) { return b == std::byte{0}; }));
    const auto pattern = static_cast<std::byte>(i);
    std::memset(at, static_cast<int>(pattern), bytes);
    used.push_back({at, bytes, pattern});
  }
  for (const Used& one : used) {
    CHECK(std::all_of(one.at, one.at + one.bytes, [&](std::byte b) { return b == one.pattern; }));
    CHECK(Heap::free(one.at));
  }
}

TEST_CASE("what is no block cannot be freed") {
  static_cast<void>(memory());
  for (const std::size_t bytes : {std::size_t{100}, std::size_t{300'000}}) {
    std::byte* const at = get(bytes, 16, true);
    CHECK_FALSE(Heap::free(at + 16));
    CHECK_FALSE(Heap::free(at + 1));
    CHECK(Heap::usable(at + 16) == 0);
    CHECK(Heap::free(at));
    CHECK_FALSE(Heap::free(at));
  }
  int local = 0;
  CHECK_FALSE(Heap::is_shared(&local));
  CHECK(Heap::usable(&local) == 0);
}

TEST_CASE("what is freed is used again") {
  static_cast<void>(memory());
  std::vector<std::byte*> first;
  for (int i = 0; i < 20'000; ++i) first.push_back(get(1000));  // 20 MB: more than a node keeps, so some go over the common list
  for (std::byte* at : first) REQUIRE(Heap::free(at));
  std::sort(first.begin(), first.end());
  std::vector<std::byte*> second;
  for (int i = 0; i < 20'000; ++i) second.push_back(get(1000));
  const auto fresh =
      std::count_if(second.begin(), second.end(), [&](std::byte* at) { return !std::binary_search(first.begin(), first.end(), at); });
  CHECK(fresh <= 64);  // the rest of what was cut together with the last of the first
  for (std::byte* at : second) REQUIRE(Heap::free(at));
}

TEST_CASE("no room is told") {
  static_cast<void>(memory());
  CHECK(Heap::allocate(SIZE_MAX, 16, false) == nullptr);
  CHECK(Heap::allocate(SIZE_MAX / 2 + 1, 16, true) == nullptr);
  CHECK(Heap::allocate(TestMemory::kBytes, 16, false) == nullptr);
  CHECK(Heap::allocate(1, std::size_t{1} << 62, false) == nullptr);
}

TEST_CASE("an address inside a block finds it, and the code that asked") {
  static_cast<void>(memory());
  const auto* const code = reinterpret_cast<const void*>(std::uintptr_t{0x401234});
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{100}, std::size_t{5000}, std::size_t{200'000}}) {
    for (const std::size_t alignment : {std::size_t{16}, std::size_t{256}}) {
      std::byte* const at = get(bytes, alignment, true, code);
      for (const std::size_t into : {std::size_t{0}, bytes / 2, bytes - 1}) {
        const auto found = Heap::find(at + into);
        REQUIRE(found);
        CHECK(found->begin == at);
        CHECK(found->bytes >= bytes);
        CHECK(found->code == 0x401234);
      }
      REQUIRE(Heap::free(at));
      const auto gone = Heap::find(at);
      CHECK((!gone || gone->begin != at));
    }
  }
}

TEST_CASE("threads allocate and free each other's blocks") {
  static_cast<void>(memory());
  constexpr int kThreads = 4;
  std::mutex mutex;
  std::vector<std::byte*> pool;
  const auto work = [&](unsigned seed) {
    std::mt19937 random(seed);
    for (int i = 0; i < 3000; ++i) {
      const std::size_t bytes = 16 + random() % 2000;
      auto* const mine = static_cast<std::byte*>(Heap::allocate(bytes, 16, false));
      if (mine == nullptr) std::abort();
      std::memset(mine, static_cast<int>(seed), bytes);
      std::byte* other = nullptr;
      {
        const std::lock_guard guard(mutex);
        pool.push_back(mine);
        if (pool.size() > 100) {
          std::swap(pool[random() % pool.size()], pool.back());
          other = pool.back();
          pool.pop_back();
        }
      }
      if (other != nullptr && !Heap::free(other)) std::abort();
    }
  };
  std::vector<std::thread> threads;
  for (unsigned t = 1; t <= kThreads; ++t) threads.emplace_back(work, t);
  for (std::thread& thread : threads) thread.join();
  std::sort(pool.begin(), pool.end());
  CHECK(std::adjacent_find(pool.begin(), pool.end()) == pool.end());
  for (std::byte* at : pool) CHECK(Heap::free(at));
}

}  // namespace
}  // namespace netvm::kit
