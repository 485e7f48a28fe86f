#include "apps/kit/heap.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <mutex>
#include <vector>

#include "runtime/ids.hpp"

namespace netvm::kit {

namespace {

constexpr std::size_t kHeader = 16;
constexpr std::size_t kLargest = std::size_t{256} * 1024;  // block with header; larger ones are allocations of their own
constexpr std::size_t kChunk = std::size_t{1} << 20;
constexpr std::size_t kBatchBytes = std::size_t{32} * 1024;  // cut, or exchanged with the common list, at a time
constexpr std::size_t kKeptBatches = 16;
constexpr std::uint32_t kLive = 0x4e56'4c76;
constexpr std::uint32_t kFree = 0x4e56'4672;
constexpr std::uint32_t kLarge = UINT32_MAX;

struct Header {
  std::uint32_t state;
  std::uint32_t size_class;
  std::uint32_t back;  // from the block's begin to the memory that was handed out, in headers
  std::uint32_t code;  // an address in the program, which lies low; 0: elsewhere
};
static_assert(sizeof(Header) == kHeader);

/// Sizes of blocks: 32 .. 128 in steps of 16, then four to each doubling.
constexpr auto make_sizes() {
  std::array<std::uint32_t, 64> sizes{};
  std::size_t n = 0;
  for (std::uint32_t size = 32; size <= 128; size += 16) sizes[n++] = size;
  for (std::uint32_t base = 128; base < kLargest; base *= 2) {
    for (std::uint32_t quarter = 1; quarter <= 4; ++quarter) sizes[n++] = base + base / 4 * quarter;
  }
  for (; n < sizes.size(); ++n) sizes[n] = UINT32_MAX;
  return sizes;
}
constexpr auto kSizes = make_sizes();
constexpr std::size_t kClasses = static_cast<std::size_t>(std::find(kSizes.begin(), kSizes.end(), UINT32_MAX) - kSizes.begin());
static_assert(kSizes[kClasses - 1] == kLargest);

/// In shared memory, one for each class.
struct alignas(kCacheLine) CommonList {
  std::uint64_t mutex;  // its address names it
  std::byte* first;
  std::uint64_t count;
};

/// What this node has of a class.
struct LocalList {
  std::mutex mutex;
  std::vector<std::byte*> blocks;
};

struct State {
  HeapMemory* memory = nullptr;
  CommonList* common = nullptr;
  std::array<LocalList, kClasses> local;
  std::mutex chunk_mutex;
  std::byte* chunk = nullptr;
  std::size_t left = 0;
};
State g_heap;
std::atomic<bool> g_open{false};

std::size_t batch_of(std::size_t size_class) { return std::clamp<std::size_t>(kBatchBytes / kSizes[size_class], 1, 256); }

/// Cuts up to `count` blocks off this node's chunk.
void cut(std::size_t size, std::size_t count, std::vector<std::byte*>& out) {
  const std::lock_guard guard(g_heap.chunk_mutex);
  for (; count > 0; --count) {
    if (g_heap.left < size) {
      if (!out.empty()) return;  // what is left of the chunk is too little for another one
      std::byte* const fresh = g_heap.memory->take(kChunk, kPageSize);
      if (fresh == nullptr) return;
      g_heap.chunk = fresh;
      g_heap.left = kChunk;
    }
    out.push_back(g_heap.chunk);
    g_heap.chunk += size;
    g_heap.left -= size;
  }
}

std::byte*& next_of(std::byte* block) { return *reinterpret_cast<std::byte**>(block + kHeader); }

class CommonGuard {
 public:
  explicit CommonGuard(const CommonList& list) : word_(&list.mutex) { g_heap.memory->lock(word_); }
  ~CommonGuard() { g_heap.memory->unlock(word_); }
  CommonGuard(const CommonGuard&) = delete;
  CommonGuard& operator=(const CommonGuard&) = delete;

 private:
  const std::uint64_t* word_;
};

/// Takes up to a batch from the common list.
void take_common(std::size_t size_class, std::vector<std::byte*>& out) {
  CommonList& list = g_heap.common[size_class];
  const CommonGuard guard(list);
  for (std::size_t n = batch_of(size_class); n > 0 && list.first != nullptr; --n) {
    out.push_back(list.first);
    list.first = next_of(list.first);
    --list.count;
  }
}

void give_common(std::size_t size_class, std::vector<std::byte*>& blocks, std::size_t keep) {
  CommonList& list = g_heap.common[size_class];
  const CommonGuard guard(list);
  while (blocks.size() > keep) {
    std::byte* const block = blocks.back();
    blocks.pop_back();
    next_of(block) = list.first;
    list.first = block;
    ++list.count;
  }
}

void* hand_out(std::byte* block, std::uint32_t size_class, std::size_t back, const void* code) {
  const auto at = reinterpret_cast<std::uintptr_t>(code);
  *reinterpret_cast<Header*>(block + back - kHeader) = {kLive, size_class, static_cast<std::uint32_t>(back / kHeader),
                                                        at <= UINT32_MAX ? static_cast<std::uint32_t>(at) : 0};
  return block + back;
}

std::byte* block_of(const Header* header) {
  return reinterpret_cast<std::byte*>(const_cast<Header*>(header)) + kHeader - std::size_t{header->back} * kHeader;
}

Header* header_of(const void* memory) {
  return reinterpret_cast<Header*>(const_cast<std::byte*>(static_cast<const std::byte*>(memory)) - kHeader);
}

/// Null unless a block begins there.
Header* live_header_of(const void* memory) {
  if (reinterpret_cast<std::uintptr_t>(memory) % kHeader != 0) return nullptr;
  Header* const header = header_of(memory);
  if (!Heap::is_shared(header)) return nullptr;
  if (header->state != kLive || (header->size_class != kLarge && header->size_class >= kClasses)) return nullptr;
  return header;
}

// A large block begins with its size.
void* allocate_large(std::size_t bytes, std::size_t alignment, const void* code) {
  const std::size_t back = std::max<std::size_t>(2 * kHeader, alignment);
  if (bytes > SIZE_MAX / 2 || back / kHeader > UINT32_MAX) return nullptr;
  std::byte* const block = g_heap.memory->take(back + bytes, std::max(alignment, kPageSize));
  if (block == nullptr) return nullptr;
  *reinterpret_cast<std::uint64_t*>(block) = back + bytes;
  return hand_out(block, kLarge, back, code);
}

}  // namespace

bool Heap::is_open() { return g_open.load(std::memory_order_acquire); }  // acquire: partner is open()'s release

std::size_t Heap::common_bytes() { return kClasses * sizeof(CommonList); }

void Heap::open(HeapMemory& memory, void* common) {
  g_heap.memory = &memory;
  g_heap.common = static_cast<CommonList*>(common);
  g_open.store(true, std::memory_order_release);  // release: partner is is_open()
}

bool Heap::is_shared(const void* memory) { return is_open() && g_heap.memory->contains(memory); }

void* Heap::allocate(std::size_t bytes, std::size_t alignment, bool zeroed, const void* code) {
  alignment = std::max(alignment, kHeader);
  const std::size_t room = bytes + (alignment > kHeader ? alignment : 0) + kHeader;
  if (bytes > kLargest || alignment > kLargest || room > kLargest) return allocate_large(bytes, alignment, code);
  const auto size_class = static_cast<std::size_t>(std::lower_bound(kSizes.begin(), kSizes.begin() + kClasses, room) - kSizes.begin());
  std::byte* block = nullptr;
  {
    LocalList& list = g_heap.local[size_class];
    const std::lock_guard guard(list.mutex);
    if (list.blocks.empty()) take_common(size_class, list.blocks);
    if (list.blocks.empty()) cut(kSizes[size_class], batch_of(size_class), list.blocks);
    if (list.blocks.empty()) return nullptr;
    block = list.blocks.back();
    list.blocks.pop_back();
  }
  const auto begin = reinterpret_cast<std::uintptr_t>(block);
  const std::size_t back = (begin + kHeader + alignment - 1) / alignment * alignment - begin;
  void* const memory = hand_out(block, static_cast<std::uint32_t>(size_class), back, code);
  if (zeroed) std::memset(memory, 0, bytes);
  return memory;
}

bool Heap::free(void* memory) {
  Header* const header = live_header_of(memory);
  if (header == nullptr) return false;
  std::byte* const block = block_of(header);
  const std::uint32_t size_class = header->size_class;
  header->state = kFree;
  if (size_class == kLarge) return g_heap.memory->give_back(block);
  LocalList& list = g_heap.local[size_class];
  const std::lock_guard guard(list.mutex);
  list.blocks.push_back(block);
  const std::size_t most = kKeptBatches * batch_of(size_class);
  if (list.blocks.size() > most) give_common(size_class, list.blocks, most / 2);
  return true;
}

std::size_t Heap::usable(const void* memory) {
  const Header* const header = live_header_of(memory);
  if (header == nullptr) return 0;
  const std::byte* const block = block_of(header);
  const std::uint64_t all = header->size_class == kLarge ? *reinterpret_cast<const std::uint64_t*>(block) : kSizes[header->size_class];
  return all - static_cast<std::size_t>(static_cast<const std::byte*>(memory) - block);
}

std::optional<Heap::Block> Heap::find(const void* at) {
  const auto address = reinterpret_cast<std::uintptr_t>(at);
  const std::byte* memory = static_cast<const std::byte*>(at) - address % kHeader;
  for (std::size_t gone = 0; gone < kLargest && is_shared(memory - kHeader); gone += kHeader, memory -= kHeader) {
    const Header* const header = live_header_of(memory);
    if (header == nullptr || header->size_class == kLarge || header->back > kLargest / kHeader) continue;
    const std::size_t bytes = usable(memory);
    if (bytes <= kLargest && address - reinterpret_cast<std::uintptr_t>(memory) < bytes) return Block{memory, bytes, header->code};
    return std::nullopt;  // the block before: what lies there is free
  }
  return std::nullopt;
}

}  // namespace netvm::kit
