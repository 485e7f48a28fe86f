// Peers that are killed while they write into the rings of others: every record that comes out was written whole, and everybody else goes on.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <random>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "nic/shm_ring.hpp"
#include "runtime/sanitizers.hpp"
#include "tests/support/nic_processes.hpp"

using namespace netvm;
using namespace netvm::nic;
using netvm::test::NicProcesses;
using netvm::test::ProcessNode;

namespace {

constexpr int kRounds = NETVM_TSAN || NETVM_ASAN ? 20 : 60;
constexpr std::size_t kCapacity = std::size_t{16} << 20;  // records so large that a death in the middle of one is likely
constexpr std::size_t kMostBody = std::size_t{256} << 10;

struct Head {
  std::uint64_t round, sequence;
};

/// What records contain: one of eight bodies, cut to a length that follows from round and sequence.
class Bodies {
 public:
  Bodies() {
    for (std::size_t b = 0; b < bodies_.size(); ++b) {
      for (std::size_t i = 0; i < kMostBody; ++i) bodies_[b].push_back(static_cast<std::byte>(b * 31 + i * 13 + i / 256));
    }
  }
  [[nodiscard]] std::span<const std::byte> of(const Head& head) const {
    const std::uint64_t x = (head.round * 1000 + head.sequence) * 6364136223846793005U;
    return std::span(bodies_[head.sequence % bodies_.size()]).first((x >> 40) % kMostBody);
  }

 private:
  std::array<std::vector<std::byte>, 8> bodies_;
};

/// Fills the ring for ever.
void produce(std::byte* area, std::uint64_t round, const Bodies& bodies) {
  RingProducer ring(area, shm_ring::area_bytes(kCapacity));
  for (Head head{round, 0};; ++head.sequence) {
    while (ring.push(std::as_bytes(std::span(&head, 1)), bodies.of(head)) == RingProducer::Push::full) {
      if (ring.wait_for_room()) std::this_thread::yield();
    }
  }
}

/// Takes what is there, at most so many records: a producer that is as fast as this one would never let it end. False: a record that nobody wrote.
bool consume(RingConsumer& ring, std::uint64_t round, const Bodies& bodies, std::uint64_t* next, std::uint64_t most = UINT64_MAX) {
  for (std::span<const std::byte> record; most != 0 && !(record = ring.front()).empty(); --most) {
    Head head{};
    if (record.size() < sizeof head) return false;
    std::memcpy(&head, record.data(), sizeof head);
    if (head.round != round || head.sequence != *next) return false;
    const std::span<const std::byte> body = bodies.of(head);
    if (record.size() != sizeof head + body.size() || std::memcmp(record.data() + sizeof head, body.data(), body.size()) != 0) return false;
    ++*next;
    ring.pop();
    (void)ring.publish();
  }
  return !ring.broken();
}

/// Whether behind the last whole record there is the beginning of this one.
bool begun(const std::byte* area, const Head& wanted) {
  const std::uint64_t tail = reinterpret_cast<const ShmRingHeader*>(area)->tail.load() % kCapacity;
  for (const std::uint64_t at : {tail, std::uint64_t{0}}) {
    Head head{UINT64_MAX, 0};
    if (at + 8 + sizeof head <= kCapacity) std::memcpy(&head, area + sizeof(ShmRingHeader) + at + 8, sizeof head);
    if (head.round == wanted.round && head.sequence == wanted.sequence) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("pitfall 14: a producer that is killed while it writes leaves a ring with whole records only, and the next one goes on") {
  auto* const area =
      static_cast<std::byte*>(::mmap(nullptr, shm_ring::area_bytes(kCapacity), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  REQUIRE(area != MAP_FAILED);
  RingConsumer ring(area, shm_ring::area_bytes(kCapacity));
  const Bodies bodies;
  std::minstd_rand random(7);
  int half_written = 0;
  std::uint64_t round = 1;
  for (; round <= kRounds || (half_written < 3 && round < 20 * kRounds); ++round) {
    const auto* const tail = &reinterpret_cast<ShmRingHeader*>(area)->tail;
    const std::uint64_t before = tail->load();  // before there is a child: it may fill the ring before this process runs again
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      ::alarm(60);
      produce(area, round, bodies);
    }
    std::uint64_t next = 0;
    bool well = true;
    while (tail->load() == before) std::this_thread::yield();
    const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(random() % 2'000);
    while (well && std::chrono::steady_clock::now() < until) {  // half of the time the ring fills
      if (round % 2 == 0) well = consume(ring, round, bodies, &next, 1);
    }
    ::kill(child, SIGKILL);
    well = well && consume(ring, round, bodies, &next);  // while it dies
    ::waitpid(child, nullptr, 0);
    REQUIRE(well);
    REQUIRE(consume(ring, round, bodies, &next));
    if (begun(area, {round, next})) ++half_written;
  }
  MESSAGE(half_written, " of ", round - 1, " deaths left part of a record behind the last whole one");
  CHECK(half_written > 0);
  ::munmap(area, shm_ring::area_bytes(kCapacity));
}

namespace {

constexpr std::uint64_t kArea = 8 * kPageSize;  // of each source in each target's memory

/// Regions are told through the board: id and key of each node's.
void tell(NicProcesses::Board& board, std::uint32_t node, const RemoteRegion& region) {
  board.words[2 * node].store(region.id.value);
  board.words[2 * node + 1].store(region.key);
}
RemoteRegion told(NicProcesses::Board& board, std::uint32_t node) {
  RemoteRegion region;
  region.node = NodeId{node};
  region.id = RegionId{static_cast<decltype(region.id.value)>(board.words[2 * node].load())};
  region.key = board.words[2 * node + 1].load();
  region.length = NicProcesses::kPages * kPageSize;
  return region;
}

constexpr std::uint32_t kVictim = 1;
constexpr std::size_t kDeath = 20, kTraffic = 21;  // words of the board

/// Writes as fast as the rings take it, to everybody, until it is killed.
bool flood(ProcessNode& self, NicProcesses::Board& board) {
  const std::array<RemoteRegion, 2> regions{told(board, 0), told(board, 2)};
  std::vector<std::byte> data(3 * kPageSize);
  for (std::uint64_t i = 1;; ++i) {
    std::memset(data.data(), static_cast<int>(i % 255), data.size());
    std::array<Completion, 4> writes;
    for (std::size_t w = 0; w < writes.size(); ++w) {
      self.nic->post_write(regions[w % 2], kVictim * kArea + (i + w) % 4 * kPageSize + 24, data.data(), data.size() - 48 * w, &writes[w]);
    }
    for (Completion& write : writes) {
      if (!ok(self.nic->wait(write))) return false;
    }
    board.words[kTraffic].fetch_add(1);
  }
}

/// Node 2: writes to node 0 and reads back, before, during and after the death.
bool bystander(ProcessNode& self, NicProcesses::Board& board) {
  const RemoteRegion region = told(board, 0);
  bool told_of_it = false;
  for (std::uint64_t i = 1, after = 0; after < 50; ++i) {
    const std::uint64_t value = i;
    std::uint64_t seen = 0;
    if (!ok(self.nic->write(region, 2 * kArea + i % 512 * 8, &value, 8))) return false;
    if (!ok(self.nic->read(region, 2 * kArea + i % 512 * 8, &seen, 8)) || seen != value) return false;
    if (board.words[kDeath].load() != 0) {
      if (!std::exchange(told_of_it, true)) self.nic->declare_dead(NodeId{kVictim});
      ++after;
    }
  }
  return self.nic->write(told(board, kVictim), 0, &told_of_it, 1) == Status::peer_dead && self.nic->drops().malformed == 0;
}

/// Node 0: kills node 1 at some moment of the flood, with requests to it on their way.
bool killer(ProcessNode& self, NicProcesses::Board& board, unsigned seed) {
  std::minstd_rand random(seed);
  const RemoteRegion victims = told(board, kVictim);
  const std::uint64_t enough = 1 + random() % 20;
  while (board.words[kTraffic].load() < enough) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::microseconds(random() % 700));
  std::vector<std::byte> data(kPageSize);
  std::array<Completion, 8> writes;
  for (std::size_t i = 0; i < writes.size(); ++i) {
    if (i == 4) ::kill(static_cast<pid_t>(board.pids[kVictim].load()), SIGKILL);
    self.nic->post_write(victims, i * kPageSize, data.data(), data.size(), &writes[i]);
  }
  std::this_thread::sleep_for(std::chrono::microseconds(random() % 700));
  self.nic->declare_dead(NodeId{kVictim});
  board.words[kDeath].store(1);
  for (Completion& write : writes) {
    const Status status = self.nic->wait(write, self.env.now() + 20'000'000'000);
    if (!ok(status) && status != Status::peer_dead) return false;
  }
  if (self.nic->write(victims, 0, data.data(), 8) != Status::peer_dead) return false;
  const Drops drops = self.nic->drops();
  return drops.malformed == 0 && drops.outside == 0 && drops.unmatched == 0 && drops.fragments == 0;
}

}  // namespace

TEST_CASE("pitfall 14: a node killed while it fills the rings of others: they are told, go on, and never take a damaged packet") {
  for (const ShmMode mode : {ShmMode::packet, ShmMode::direct}) {
    for (unsigned round = 0; round < (NETVM_TSAN || NETVM_ASAN ? 3 : 8); ++round) {
      CAPTURE(round);
      const auto body = [round](std::uint32_t node, ProcessNode& self, NicProcesses::Board& board) {
        const PageRange all{PageId{0}, NicProcesses::kPages};
        const RemoteRegion mine = self.nic->region_create(all, Rights::all).value();
        tell(board, node, mine);
        board.phase[2].fetch_add(1);
        while (board.phase[2].load() < 3) std::this_thread::yield();
        if (node == kVictim) return flood(self, board);
        return node == 2 ? bystander(self, board) : killer(self, board, round + 1);
      };
      CHECK(NicProcesses::run(3, mode, body, kVictim));
    }
  }
}
