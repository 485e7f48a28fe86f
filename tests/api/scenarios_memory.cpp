#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "tests/api/scenario.hpp"

namespace netvm::test {

namespace {

void identity(Job& job) {
  EXPECT(job.node() >= 0 && job.node() < job.nodes());
  job.parallel([&](Thread& me) {
    EXPECT(me.count() == job.nodes() * job.threads_per_node());
    EXPECT(me.rank() == me.node() * me.threads() + me.local());
    EXPECT(me.sum(1) == me.count());
    EXPECT(me.sum(me.rank()) == me.count() * (me.count() - 1) / 2);
    EXPECT(me.max(me.rank()) == me.count() - 1);
    EXPECT(me.min(me.rank() + 5) == 5);
  });
}

/// Every thread writes its own elements under each placement; everybody reads all of them.
void placements(Job& job) {
  constexpr std::size_t kCount = 20000;
  for (const std::string_view protocol : protocol_names()) {
    for (const Placement& placement : {Placement::first_touch(), Placement::block(), Placement::cyclic(), Placement::at(job.nodes() - 1)}) {
      auto* data = job.allocate_all<std::uint32_t>(kCount, {.placement = placement, .protocol = protocol});
      for (int round = 1; round <= 3; ++round) {
        job.parallel([&](Thread& me) {
          for (std::size_t i = 0; i < kCount; ++i)
            EXPECT(data[i] == (round == 1 ? 0 : static_cast<std::uint32_t>(i * 7 + static_cast<std::size_t>(round) - 1)));
          me.barrier();
          for (auto i = static_cast<std::size_t>(me.rank()); i < kCount; i += static_cast<std::size_t>(me.count()))
            data[i] = static_cast<std::uint32_t>(i * 7 + static_cast<std::size_t>(round));
        });
      }
      if (job.node() == 0) job.free(data);
      job.barrier();
    }
  }
}

/// Bytes next to each other, written by different threads at the same time.
void false_sharing(Job& job) {
  auto* bytes = job.allocate_all<unsigned char>(3 * 4096);
  for (int round = 1; round <= 20; ++round) {
    job.parallel([&](Thread& me) {
      for (int i = me.rank(); i < 3 * 4096; i += me.count()) bytes[i] = static_cast<unsigned char>(i * 3 + round);
      me.barrier();
      for (int i = 0; i < 3 * 4096; ++i) EXPECT(bytes[i] == static_cast<unsigned char>(i * 3 + round));
    });
  }
}

/// Objects of many sizes, allocated by all threads at once, linked through shared memory, freed and allocated again as zeros.
void allocator(Job& job) {
  struct Node {
    Node* next;
    std::uint32_t owner;
    std::uint32_t bytes;
  };
  constexpr int kEach = 40;
  auto** heads = job.allocate_all<Node*>(64);
  for (int round = 0; round < 3; ++round) {
    job.parallel([&](Thread& me) {
      for (int i = 0; i < kEach; ++i) {
        const std::size_t bytes = sizeof(Node) + static_cast<std::size_t>(i * i * 13 % 9000);
        auto* raw = job.allocate<unsigned char>(bytes, {.alignment = 16});
        EXPECT(reinterpret_cast<std::uintptr_t>(raw) % 16 == 0);
        EXPECT(std::all_of(raw, raw + bytes, [](unsigned char c) { return c == 0; }));
        std::memset(raw, 0xab, bytes);
        auto* node = reinterpret_cast<Node*>(raw);
        *node = {heads[me.rank()], static_cast<std::uint32_t>(me.rank()), static_cast<std::uint32_t>(bytes)};
        heads[me.rank()] = node;
      }
      me.barrier();
      const int other = (me.rank() + 1) % me.count();
      int seen = 0;
      for (Node* node = heads[other]; node != nullptr; node = node->next, ++seen) {
        EXPECT(node->owner == static_cast<std::uint32_t>(other));
        EXPECT(reinterpret_cast<unsigned char*>(node)[node->bytes - 1] == 0xab || node->bytes == sizeof(Node));
      }
      EXPECT(seen == kEach);
      me.barrier();
      for (Node* node = heads[other]; node != nullptr;) {
        Node* next = node->next;
        job.free(node);
        node = next;
      }
      me.barrier();
      heads[me.rank()] = nullptr;
    });
  }
}

void global_address_space(Job& job) {
  const auto nodes = static_cast<std::size_t>(job.nodes());
  auto* words = job.symmetric_all<std::uint64_t>(nodes + 8);
  auto* block = job.symmetric_all<unsigned char>(300000);
  const int right = (job.node() + 1) % job.nodes();
  const auto me = static_cast<std::size_t>(job.node());
  // put / get of a large block, of one byte, at odd places.
  std::vector<unsigned char> source(200001);
  for (std::size_t i = 0; i < source.size(); ++i) source[i] = static_cast<unsigned char>(i * 31 + me);
  put(right, block + 4093, source.data(), source.size());
  job.barrier();
  const auto left = (me + nodes - 1) % nodes;
  for (std::size_t i = 0; i < source.size(); ++i) EXPECT(block[4093 + i] == static_cast<unsigned char>(i * 31 + left));
  std::vector<unsigned char> back(source.size());
  get(right, block + 4093, back.data(), back.size());
  EXPECT(back == source);
  // Source and destination in coherent memory that faults when touched: what another node wrote.
  auto* coherent = job.allocate_all<unsigned char>(source.size(), {.placement = Placement::at(0)});
  if (me == 0) std::copy(source.begin(), source.end(), coherent);
  job.barrier();
  put(right, block, coherent, source.size());
  job.barrier();
  for (std::size_t i = 0; i < source.size(); ++i) EXPECT(block[i] == static_cast<unsigned char>(i * 31));
  if (me == nodes - 1) get(0, block, coherent, source.size());
  job.barrier();
  for (std::size_t i = 0; i < source.size(); ++i) EXPECT(coherent[i] == static_cast<unsigned char>(i * 31));
  // Atomics of all nodes on one word, with the host's own atomic_ref.
  job.barrier();
  for (int i = 0; i < 1000; ++i) fetch_add(0, words, 1);
  if (job.node() == 0) {
    for (int i = 0; i < 1000; ++i) std::atomic_ref<std::uint64_t>(words[0]).fetch_add(1);
  }
  job.barrier();
  std::uint64_t total = 0;
  get(0, words, &total);
  EXPECT(total == 1000 * (nodes + 1));
  fetch_or(0, words + 1, std::uint64_t{1} << me);
  EXPECT(compare_swap(job.node(), words + 2, 0, 5) == 0);
  EXPECT(compare_swap(job.node(), words + 2, 0, 6) == 5);
  EXPECT(masked_compare_swap(job.node(), words + 2, 0xf4, 0xabcd, 0x0f, 0xff00) == 5);  // other low bits: nothing
  EXPECT(masked_compare_swap(job.node(), words + 2, 0xf5, 0xabcd, 0x0f, 0xff00) == 5);
  EXPECT(compare_swap(job.node(), words + 2, 0xab05, 5) == 0xab05);
  EXPECT(swap(job.node(), words + 2, 9) == 5);
  EXPECT(words[2] == 9);
  job.barrier();
  get(0, words + 1, &total);
  EXPECT(total == (std::uint64_t{1} << nodes) - 1);
  job.barrier();
  if (job.node() == 0) words[0] = words[1] = 0;
  words[2] = 0;
  job.barrier();
}

/// Node 1 computes and calls nothing of NetVM until node 0, having read and written its memory in every way, says so. Whoever waited for
/// the target's application would wait for ever.
void computing_target(Job& job) {
  if (job.nodes() < 2) return;
  constexpr std::size_t kPages = 20;
  auto* words = job.symmetric_all<std::uint64_t>(2);
  std::uint64_t* pages[2];
  for (int i = 0; i < 2; ++i) {
    pages[i] = job.allocate_all<std::uint64_t>(kPages * 512, {.placement = Placement::at(1), .protocol = i == 0 ? "hlrc" : "sc-directory"});
    if (job.node() != 1) continue;
    for (std::size_t p = 0; p < kPages; ++p) pages[i][p * 512] = p + 1;
  }
  words[0] = 77;
  std::atomic_ref<std::uint64_t> done(words[1]);
  done.store(0);
  job.barrier();
  if (job.node() == 1) {
    while (done.load() == 0) {
    }
  } else if (job.node() == 0) {
    std::uint64_t value = 0;
    get(1, words, &value);
    EXPECT(value == 77);
    EXPECT(fetch_add(1, words, 1) == 77);
    for (auto* data : pages) {
      for (std::size_t p = 0; p < kPages; ++p) {
        EXPECT(data[p * 512] == p + 1);
        data[p * 512 + 1] = p;
      }
    }
    value = 1;
    put(1, words + 1, &value);
  }
  job.barrier();
  for (auto* data : pages) {
    for (std::size_t p = 0; p < kPages; ++p) EXPECT(data[p * 512 + 1] == p);
  }
}

/// A producer's puts are visible when the counter says so.
void event_counters(Job& job) {
  EventCounter counter(job);
  auto* inbox = job.symmetric_all<std::uint64_t>(512);
  const int right = (job.node() + 1) % job.nodes();
  const auto left = static_cast<std::uint64_t>((job.node() + job.nodes() - 1) % job.nodes());
  for (std::uint64_t i = 0; i < 512; ++i) {
    const std::uint64_t value = i * 100 + static_cast<std::uint64_t>(job.node());
    if (i % 2 == 0) {
      put(right, inbox + i, &value);
      counter.notify(right);
    } else {
      counter.put(right, inbox + i, &value);
    }
    counter.wait(i + 1);
    EXPECT(inbox[i] == i * 100 + left);
  }
  EXPECT(counter.value() == 512);
  EXPECT(!counter.wait_for(513, std::chrono::milliseconds(20)));
  job.barrier();
}

/// System calls take no faults: touch() first.
void system_calls(Job& job) {
  constexpr std::size_t kBytes = 3 * 4096 + 100;
  auto* text = job.allocate_all<char>(kBytes, {.placement = Placement::at(0)});
  int fds[2];
  EXPECT(pipe(fds) == 0);
  if (job.node() == job.nodes() - 1) {
    const std::string sent(kBytes, 'x');
    EXPECT(write(fds[1], sent.data(), sent.size()) == static_cast<ssize_t>(kBytes));
    job.touch(text, kBytes, true);
    EXPECT(read(fds[0], text, kBytes) == static_cast<ssize_t>(kBytes));
  }
  close(fds[0]);
  close(fds[1]);
  job.barrier();
  EXPECT(std::count(text, text + kBytes, 'x') == static_cast<std::ptrdiff_t>(kBytes));
}

void accessors(Job& job) {
  auto* value = job.allocate_all<double>(job.nodes() > 0 ? static_cast<std::size_t>(job.nodes()) : 1);
  store(value + job.node(), 1.5 * job.node());
  job.barrier();
  for (int i = 0; i < job.nodes(); ++i) EXPECT(load(value + i) == 1.5 * i);
}

}  // namespace

/// Coherence units of every size: neighbours written by different threads, and everything read in sequence, upwards and downwards.
void granularities(Job& job) {
  constexpr std::size_t kCount = 46 * 1024;  // 184 KiB: ends within a unit of the larger sizes
  for (const std::string_view protocol : protocol_names()) {
    for (std::size_t granularity = 4096; granularity <= 65536; granularity *= 2) {
      const bool cyclic = granularity % 3 == 1;  // 4 KiB, 16 KiB, 64 KiB
      auto* data = job.allocate_all<std::uint32_t>(
          kCount, {.placement = cyclic ? Placement::cyclic() : Placement::first_touch(), .protocol = protocol, .granularity = granularity});
      EXPECT(reinterpret_cast<std::uintptr_t>(data) % granularity == 0);
      for (std::uint32_t round = 1; round <= 2; ++round) {
        job.parallel([&](Thread& me) {
          for (auto i = static_cast<std::size_t>(me.rank()); i < kCount; i += static_cast<std::size_t>(me.count()))
            data[i] = static_cast<std::uint32_t>(i) * 3 + round;
          me.barrier();
          for (std::size_t i = 0; i < kCount; ++i) {
            const std::size_t at = round == 1 ? i : kCount - 1 - i;
            EXPECT(data[at] == static_cast<std::uint32_t>(at) * 3 + round);
          }
        });
      }
      if (job.node() == 0) job.free(data);
      job.barrier();
    }
  }
}

bool refused(Job& job, const AllocationOptions& options, const std::string& with) {
  try {
    job.free(job.allocate<int>(1, options));
  } catch (const AllocationError& error) {
    return std::string(error.what()).find(with) != std::string::npos;
  }
  return false;
}

void promises(Job& job) {
  EXPECT(refused(job, {.granularity = 5000}, "a coherence granularity of 5000 bytes: it must be a power of two from 4 KiB to 64 KiB"));
  EXPECT(refused(job, {.granularity = 131072}, "131072"));
  EXPECT(refused(job, {.protocol = "hlrc", .needs = Consistency::sequential}, "protocol hlrc gives release consistency"));
  EXPECT(refused(job, {.protocol = "hlrc", .needs = Consistency::sequential}, "sc-directory"));
  EXPECT(refused(job, {.needs = static_cast<Consistency>(77)}, "needs is 77, which is no Consistency"));
  EXPECT(refused(job, {.name = "two\nlines"}, "has a control character (0x0a, its byte 3)"));
  EXPECT(refused(job, {.name = "\x7f"}, "0x7f, its byte 0"));
  job.free(job.allocate<int>(1, {.name = "Gr\xc3\xb6\xc3\x9f"
                                         "e"}));
  job.free(job.allocate<int>(1, {.protocol = "hlrc", .needs = Consistency::release}));
  job.free(job.allocate<int>(1, {.protocol = "hlrc", .needs = Consistency::entry}));
  job.free(job.allocate<int>(1, {.protocol = "sc-directory", .needs = Consistency::sequential}));
}

/// A second Job, and one of more threads than there may be.
void jobs_that_cannot_be(Job& job) {
  const auto is_refused = [](int threads, const char* why) {
    try {
      const Job another(threads);
    } catch (const Error& error) {
      return std::string_view(error.what()).find(why) != std::string_view::npos;
    }
    return false;
  };
  EXPECT(is_refused(0, "has a netvm::Job already"));
  EXPECT(is_refused(1025, "1025 threads a node: give 1 to 1024"));
  EXPECT(is_refused(-1, "-1 threads a node"));
  job.barrier();
}

std::vector<Scenario> memory_scenarios() {
  return {{"identity", identity},
          {"jobs_that_cannot_be", jobs_that_cannot_be},
          {"placements", placements},
          {"false_sharing", false_sharing},
          {"granularities", granularities},
          {"promises", promises},
          {"allocator", allocator},
          {"accessors", accessors},
          {"global_address_space", global_address_space},
          {"computing_target", computing_target},
          {"event_counters", event_counters},
          {"system_calls", system_calls}};
}

}  // namespace netvm::test
