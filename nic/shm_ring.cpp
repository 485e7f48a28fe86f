#include "nic/shm_ring.hpp"

#include <bit>
#include <cstring>

#include "nic/racy_copy.hpp"
#include "runtime/check.hpp"

namespace netvm::nic {

namespace {

constexpr std::uint64_t kRecordHeader = sizeof(std::uint64_t);
constexpr std::uint64_t kMinCapacity = 4096;
// Record header: the length in the low half, what it is in the high half (a constant that makes stray memory unlikely to pass).
constexpr std::uint32_t kData = 0x4e564d52;
constexpr std::uint32_t kSkip = 0x4e564d53;  // nothing until the end of the area; length 0

constexpr std::uint64_t record_header(std::uint32_t what, std::uint64_t length) { return std::uint64_t{what} << 32 | length; }
constexpr std::uint64_t record_bytes(std::uint64_t length) { return kRecordHeader + ((length + 7) & ~std::uint64_t{7}); }

void store_header(std::byte* at, std::uint64_t header) { std::memcpy(at, &header, sizeof header); }

// The header is read exactly once, as one word that the compiler must not re-read: a peer may change it behind our back.
std::uint64_t load_header(const std::byte* at) { return *reinterpret_cast<const volatile std::uint64_t*>(at); }

}  // namespace

std::size_t shm_ring::capacity_of(std::size_t area_bytes) {
  NETVM_CHECK(area_bytes >= sizeof(ShmRingHeader) + kMinCapacity, "a ring needs %zu bytes, got %zu", sizeof(ShmRingHeader) + kMinCapacity,
              area_bytes);
  return std::bit_floor(area_bytes - sizeof(ShmRingHeader));
}

RingProducer::RingProducer(std::byte* area, std::size_t area_bytes)
    : shared_(reinterpret_cast<ShmRingHeader*>(area)), data_(area + sizeof(ShmRingHeader)), capacity_(shm_ring::capacity_of(area_bytes)) {
  // relaxed: only this side writes it; what an earlier producer left
  tail_ = committed_ = shared_->tail.load(std::memory_order_relaxed);
  cached_head_ = shared_->head.load(std::memory_order_acquire);  // acquire: partner is publish()'s release
  NETVM_CHECK(tail_ - cached_head_ <= capacity_, "a ring's area holds head %llu and tail %llu: it was not zero at the start",
              static_cast<unsigned long long>(cached_head_), static_cast<unsigned long long>(tail_));
}

bool RingProducer::room_for(std::uint64_t bytes) {
  if (tail_ + bytes - cached_head_ <= capacity_) return true;
  const std::uint64_t head = shared_->head.load(std::memory_order_acquire);  // acquire: the space is free; partner is publish()'s release
  if (shared_->broken.load(std::memory_order_relaxed) != 0 ||                // relaxed: a one-way mark, no data behind it
      tail_ - head > capacity_ || head - cached_head_ > capacity_) {
    broken_ = true;
    return false;
  }
  cached_head_ = head;
  return tail_ + bytes - cached_head_ <= capacity_;
}

void RingProducer::commit() {
  if (committed_ == tail_) return;
  committed_ = tail_;
  shared_->tail.store(tail_, std::memory_order_release);  // release: the records are whole; partner is front()'s acquire
}

RingProducer::Push RingProducer::push(std::span<const std::byte> first, std::span<const std::byte> second, Commit when) {
  if (broken_) return Push::broken;
  const std::uint64_t length = first.size() + second.size();
  NETVM_CHECK(length != 0 && length <= shm_ring::max_record(capacity_), "a record of %llu bytes; a ring of %llu takes 1 to %llu",
              static_cast<unsigned long long>(length), static_cast<unsigned long long>(capacity_),
              static_cast<unsigned long long>(shm_ring::max_record(capacity_)));
  const std::uint64_t bytes = record_bytes(length);
  std::uint64_t at = tail_ & (capacity_ - 1);
  const std::uint64_t skip = at + bytes > capacity_ ? capacity_ - at : 0;
  if (!room_for(skip + bytes)) {
    if (broken_) return Push::broken;
    commit();  // the consumer makes room of what it sees
    return Push::full;
  }
  if (skip != 0) {
    store_header(data_ + at, record_header(kSkip, 0));
    at = 0;
  }
  store_header(data_ + at, record_header(kData, length));
  std::byte* to = data_ + at + kRecordHeader;
  if (!first.empty()) std::memcpy(to, first.data(), first.size());
  if (!second.empty()) racy_copy(to + first.size(), second.data(), second.size());
  tail_ += skip + bytes;
  if (when == Commit::now) commit();
  return Push::done;
}

bool RingProducer::wait_for_room() {
  shared_->producer_waits.store(cached_head_ + 1, std::memory_order_seq_cst);
  std::atomic_thread_fence(std::memory_order_seq_cst);  // announce, then look; partner: publish()'s fence (make room, then look)
  const std::uint64_t head = shared_->head.load(std::memory_order_acquire);             // acquire: as in room_for()
  return head == cached_head_ && shared_->broken.load(std::memory_order_relaxed) == 0;  // relaxed: a one-way mark
}

RingConsumer::RingConsumer(std::byte* area, std::size_t area_bytes)
    : shared_(reinterpret_cast<ShmRingHeader*>(area)), data_(area + sizeof(ShmRingHeader)), capacity_(shm_ring::capacity_of(area_bytes)) {
  head_ = shared_->head.load(std::memory_order_relaxed);  // relaxed: only this side writes it
  published_head_ = head_;
  cached_tail_ = head_;
}

std::span<const std::byte> RingConsumer::fail() {
  broken_ = true;
  front_bytes_ = 0;
  shared_->broken.store(1, std::memory_order_relaxed);  // relaxed: a one-way mark, no data behind it
  return {};
}

std::span<const std::byte> RingConsumer::front() {
  if (broken_) return {};
  for (;;) {
    if (head_ == cached_tail_) {
      const std::uint64_t tail =
          shared_->tail.load(std::memory_order_acquire);  // acquire: the records are whole; partner is push()'s release
      if (tail == head_) return {};
      if (tail - head_ > capacity_ || tail % 8 != 0) return fail();
      cached_tail_ = tail;
    }
    const std::uint64_t at = head_ & (capacity_ - 1);
    const std::uint64_t header = load_header(data_ + at);
    const std::uint64_t length = header & UINT32_MAX;
    const std::uint64_t available = cached_tail_ - head_;
    switch (header >> 32) {
      case kSkip:
        if (length != 0 || capacity_ - at >= available) return fail();  // a record always follows a skip
        head_ += capacity_ - at;
        continue;
      case kData:
        front_bytes_ = record_bytes(length);
        if (length == 0 || length > shm_ring::max_record(capacity_) || front_bytes_ > available || at + front_bytes_ > capacity_)
          return fail();
        return {data_ + at + kRecordHeader, length};
      default:
        return fail();
    }
  }
}

void RingConsumer::pop() {
  NETVM_CHECK(front_bytes_ != 0, "pop() without a front()");
  head_ += front_bytes_;
  front_bytes_ = 0;
}

bool RingConsumer::publish() {
  if (head_ == published_head_) return false;
  published_head_ = head_;
  shared_->head.store(head_, std::memory_order_release);  // release: the records are read; partner is room_for()'s acquire
  std::atomic_thread_fence(std::memory_order_seq_cst);    // make room, then look; partner: wait_for_room()'s fence (announce, then look)
  std::uint64_t waits = shared_->producer_waits.load(std::memory_order_relaxed);  // relaxed: ordered by the fence above
  // A producer that changes the word now looks at head after that, and finds this one.
  return waits != 0 && waits != head_ + 1 && shared_->producer_waits.compare_exchange_strong(waits, 0, std::memory_order_seq_cst);
}

}  // namespace netvm::nic
