// One thread pushes records into a ring, another takes them out and looks at every byte. All order between the two is the ring's own: a release store of a
// position, and the acquire load that sees it. CMakeLists.txt says what this is for.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>

#include "nic/shm_ring.hpp"

namespace {

constexpr std::size_t kRecords = 2'000;
constexpr std::size_t kRecordBytes = 200;
constexpr std::size_t kAreaBytes = netvm::nic::shm_ring::area_bytes(4096);  // twenty records: it fills up, and its space is used again

std::byte content(std::size_t record, std::size_t at) { return static_cast<std::byte>(record * 7 + at); }

void produce(std::byte* area) {
  netvm::nic::RingProducer producer(area, kAreaBytes);
  std::byte bytes[kRecordBytes];
  for (std::size_t record = 0; record < kRecords; ++record) {
    for (std::size_t at = 0; at < kRecordBytes; ++at) bytes[at] = content(record, at);
    while (producer.push(bytes, {}) != netvm::nic::RingProducer::Push::done) std::this_thread::yield();
  }
}

bool consume(std::byte* area) {
  netvm::nic::RingConsumer consumer(area, kAreaBytes);
  std::size_t wrong = 0;
  for (std::size_t record = 0; record < kRecords;) {
    const std::span<const std::byte> bytes = consumer.front();
    if (bytes.empty()) {
      std::this_thread::yield();
      continue;
    }
    wrong += bytes.size() != kRecordBytes ? 1 : 0;
    for (std::size_t at = 0; at < bytes.size(); ++at) wrong += bytes[at] != content(record, at) ? 1 : 0;
    consumer.pop();
    (void)consumer.publish();
    ++record;
  }
  return wrong == 0;
}

}  // namespace

int main() {
  auto* const area = static_cast<std::byte*>(std::calloc(1, kAreaBytes + netvm::kCacheLine));
  void* aligned = area;
  std::size_t room = kAreaBytes + netvm::kCacheLine;
  auto* const ring = static_cast<std::byte*>(std::align(netvm::kCacheLine, kAreaBytes, aligned, room));
  bool right = false;
  std::thread consumer([&] { right = consume(ring); });
  produce(ring);
  consumer.join();
  std::free(area);
  std::puts(right ? "all records arrived" : "a record arrived damaged");
  return right ? 0 : 1;
}
