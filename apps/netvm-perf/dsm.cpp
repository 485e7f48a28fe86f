#include "apps/netvm-perf/dsm.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "apps/netvm-perf/trap_floor.hpp"
#include "dsm/api/job_runtime.hpp"
#include "dsm/diff.hpp"
#include "dsm/protocol.hpp"
#include "runtime/trap.hpp"

namespace netvm::perf {

namespace {

constexpr std::size_t kWordsPerPage = 512;
constexpr std::size_t kReleasedPages = 64;  // how many a release is measured with
constexpr std::size_t kAskedAsleep = 128;   // pages of a node that must be woken for each

/// The bare machine, measured in turns with the protocols.
struct Floors {
  Series read, upgrade;                 // nanoseconds a page
  Series bare_read, bare_upgrade;       // without a copy
  Series read_protect, upgrade_revoke;  // the same, and the revocation that another copy needs, one after the other
  Series copy;                          // 4 KiB between two large buffers
  Series diff_and_copy;                 // every second double of a page found and copied
};

class Bare {
 public:
  explicit Bare(std::size_t pages)
      : pages_(pages),
        trap_(resolve_trap(Settings::from_environment().trap).kind.value()),
        here_(pages * kPageSize),
        there_(pages * kPageSize, std::byte{1}),
        runs_(dsm::kMaxDiffRuns) {}

  [[nodiscard]] TrapKind trap() const { return trap_; }

  void measure(Floors& floors) {
    const TrapFloor trap = measure_trap_floor(trap_, static_cast<int>(pages_), 1);
    floors.read.add(trap.read_fault_with_copy_ns);
    floors.upgrade.add(trap.upgrade_with_copy_ns);
    floors.bare_read.add(trap.read_fault_ns);
    floors.bare_upgrade.add(trap.upgrade_ns);
    floors.read_protect.add(trap.read_fault_with_copy_ns + trap.protect_ns);
    floors.upgrade_revoke.add(trap.upgrade_ns + trap.revoke_ns);
    floors.copy.add(time_batch(static_cast<int>(pages_), [&](int i) {
      std::memcpy(here_.data() + static_cast<std::size_t>(i) * kPageSize, there_.data() + static_cast<std::size_t>(i) * kPageSize,
                  kPageSize);
    }));
    for (std::size_t i = 0; i < here_.size(); ++i) here_[i] = i % 16 < 8 ? ~there_[i] : there_[i];
    floors.diff_and_copy.add(time_batch(static_cast<int>(pages_), [&](int i) {
      const std::size_t at = static_cast<std::size_t>(i) * kPageSize;
      const std::size_t runs = dsm::find_diff_runs(there_.data() + at, here_.data() + at, runs_.data());
      for (std::size_t r = 0; r < runs; ++r)
        std::memcpy(there_.data() + at + runs_[r].offset, here_.data() + at + runs_[r].offset, runs_[r].bytes);
    }));
  }

 private:
  std::size_t pages_;
  TrapKind trap_;
  std::vector<std::byte> here_;
  std::vector<std::byte> there_;
  std::vector<dsm::DiffRun> runs_;
};

/// What one protocol's rows are made of.
struct Figures {
  Series read_miss, upgrade, sequential, release, revoke;
  Series read_miss_asleep, upgrade_asleep;
  Series read_miss_unwritten, upgrade_alone;  // no other node loses a right
  Series bare_revoke;                         // the floor of `revoke`: it is taken of the same pages
};

/// What the nodes tell each other past the protocols; of all measurements.
struct Signals {
  explicit Signals(Job& job) : done(job) {}
  EventCounter done;
  std::uint64_t of_node_0 = 0;  // so many are counted at node 1 when the present round's is there
  std::uint64_t of_node_1 = 0;
};

class Measurement {
 public:
  Measurement(Job& job, const dsm::Traits& traits, TrapKind trap, std::size_t pages, std::uint64_t* data, mutex* lock, Signals& signals)
      : job_(job), traits_(traits), trap_(trap), pages_(pages), data_(data), lock_(lock), signals_(signals) {}

  /// One batch of everything. Both nodes.
  void batch(unsigned number, Figures& figures) {
    const auto order = shuffled(pages_, number);
    const bool first = job_.node() == 0;
    write_all(number);
    if (first) figures.read_miss.add(read_all(order, number));
    if (first) figures.upgrade.add(time_batch(static_cast<int>(pages_), [&](int i) { store(order[static_cast<std::size_t>(i)], 1); }));
    job_.barrier();
    // From here on node 0 has readable copies of all pages again, where its protocol lets it.
    std::vector<std::size_t> ascending(pages_);
    std::iota(ascending.begin(), ascending.end(), std::size_t{0});
    if (first) read_all(ascending, number);
    job_.barrier();                                                         // node 1 does not write while it is read
    const bool lazy = traits_.consistency != dsm::Consistency::sequential;  // else rights are gone before the barrier
    if (lazy && number % 4 == 0) {
      floor_of_revoking(number + 1, figures);
      if (first) read_all(ascending, number + 1);
    } else {
      const double revoked = write_all(number + 1);
      if (first && lazy) figures.revoke.add(revoked / static_cast<double>(pages_));
      if (first) figures.sequential.add(read_all(ascending, number + 1));
    }
    job_.barrier();
    // The first only ends what is left of before: leases of the pages that were read, and the copies that they keep.
    (void)release(number);
    share_released(number);
    const double released = release(number + 1);
    if (first && lazy) figures.release.add(released);
    write_all(number);
    asleep(number, figures);
  }

 private:
  void store(std::size_t page, std::size_t word) { static_cast<volatile std::uint64_t*>(data_)[page * kWordsPerPage + word] = word; }

  /// In place of the barrier that revokes, once node 1 has written: one system call takes all pages from the application, behind the protocol's back. So
  /// floor and measured find the same pages in the same state, on which it hangs what the call costs.
  void floor_of_revoking(unsigned number, Figures& figures) {
    ++signals_.of_node_1;
    if (job_.node() == 1) {
      write_pages(number);
      signals_.done.notify(0);
    } else {
      signals_.done.wait(signals_.of_node_1);
      figures.bare_revoke.add(time_bare_revoke(trap_, reinterpret_cast<std::byte*>(data_), pages_));
    }
    job_.barrier();
  }

  void write_pages(unsigned number) {
    for (std::size_t p = 0; p < pages_; ++p) data_[p * kWordsPerPage] = number + p;
  }

  /// Node 1 writes every page; then a barrier, of which the time that node 0's protocol took is returned.
  double write_all(unsigned number) {
    if (job_.node() == 1) write_pages(number);
    Stats& stats = detail::Runtime::current("netvm-perf").stats;
    const std::uint64_t before = stats.get(Stat::protocol_ns);
    job_.barrier();
    return static_cast<double>(stats.get(Stat::protocol_ns) - before);
  }

  /// Misses and upgrades while node 1 sleeps outside of NetVM: its engine must be woken for what needs node 1's help.
  void asleep(unsigned number, Figures& figures) {
    ++signals_.of_node_0;
    if (job_.node() == 0) {
      auto order = shuffled(pages_, number + 1);
      order.resize(std::min(pages_, kAskedAsleep));
      std::this_thread::sleep_for(std::chrono::milliseconds(2));  // node 1 sleeps, and so does its engine
      figures.read_miss_asleep.add(read_all(order, number));
      figures.upgrade_asleep.add(time_batch(static_cast<int>(order.size()), [&](int i) { store(order[static_cast<std::size_t>(i)], 1); }));
      signals_.done.notify(1);
    } else {
      while (signals_.done.value() < signals_.of_node_0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    job_.barrier();
  }

  /// Node 1 writes a word of every line of the pages that node 0 releases, and node 0 gets them again.
  void share_released(unsigned number) {
    const std::size_t pages = std::min(pages_, kReleasedPages);
    if (job_.node() == 1) {
      for (std::size_t p = 0; p < pages; ++p) {
        for (std::size_t w = 1; w < kWordsPerPage; w += 8) data_[p * kWordsPerPage + w] = number;
      }
    }
    job_.barrier();
    if (job_.node() == 0) job_.touch(data_, pages * kPageSize, false);
  }

  double read_all(const std::vector<std::size_t>& order, unsigned number) {
    std::uint64_t wrong = 0;
    const double ns = time_batch(static_cast<int>(order.size()), [&](int i) {
      const std::size_t p = order[static_cast<std::size_t>(i)];
      wrong += static_cast<volatile std::uint64_t*>(data_)[p * kWordsPerPage] != number + p ? 1 : 0;
    });
    if (wrong != 0) throw Error("netvm-perf: a page miss brought stale data");
    return ns;
  }

  /// Node 0 writes every second double of 64 pages, under their lock; then a barrier, as an unlock alone need not release anything. Returns
  /// the nanoseconds that node 0's protocol took for the two, a page.
  double release(unsigned number) {
    const std::size_t pages = std::min(pages_, kReleasedPages);
    const Stats& stats = detail::Runtime::current("netvm-perf").stats;
    std::uint64_t before = 0;
    if (job_.node() == 0) {
      lock_->lock();
      for (std::size_t p = 0; p < pages; ++p) {
        for (std::size_t w = 0; w < kWordsPerPage; w += 2) data_[p * kWordsPerPage + w] = ~(std::uint64_t{number} * 0x0101010101010101 + p);
      }
      before = stats.get(Stat::protocol_ns);
      lock_->unlock();
    }
    job_.barrier();
    return static_cast<double>(stats.get(Stat::protocol_ns) - before) / static_cast<double>(pages);
  }

  Job& job_;
  const dsm::Traits& traits_;
  TrapKind trap_;
  std::size_t pages_;
  std::uint64_t* data_;
  mutex* lock_;
  Signals& signals_;
};

/// The frames are there before anything is measured, as the floor's are: what the kernel does to find memory is not the protocol's part.
void make_frames(const std::uint64_t* data, std::size_t pages) {
  detail::Runtime& runtime = detail::Runtime::current("netvm-perf");
  PageId first;
  if (!runtime.vm->page_of(reinterpret_cast<std::uintptr_t>(data), &first)) throw Error("netvm-perf: memory of a job outside of it");
  if (!ok(runtime.vm->make_resident({first, pages}))) throw Error("netvm-perf: no memory for the frames of pages");
}

/// Misses and upgrades for which no other node loses a right: of pages that their home, node 1, may read and nobody ever wrote; of pages that no
/// other node has. Each batch has memory of its own, as its pages must be new.
void measure_alone(Job& job, std::string_view protocol, std::size_t pages, Figures& figures, unsigned number) {
  const auto fresh = [&](int home) {
    auto* data = job.allocate_all<std::uint64_t>(
        pages * kWordsPerPage, {.placement = Placement::at(home), .protocol = protocol, .alignment = kPageSize, .granularity = kPageSize});
    make_frames(data, pages);
    return data;
  };
  const auto order = shuffled(pages, number);
  const auto touch_all = [&](std::uint64_t* data, bool write) {
    return time_batch(static_cast<int>(pages), [&](int i) {
      volatile std::uint64_t* word = data + order[static_cast<std::size_t>(i)] * kWordsPerPage;
      if (write) {
        *word = 1;
      } else {
        (void)*word;
      }
    });
  };
  std::uint64_t* shared = fresh(1);
  std::uint64_t* own = fresh(0);
  if (job.node() == 1) (void)touch_all(shared, false);
  job.barrier();
  if (job.node() == 0) {
    figures.read_miss_unwritten.add(touch_all(shared, false));
    (void)touch_all(own, false);
    figures.upgrade_alone.add(touch_all(own, true));
  }
  job.barrier();
  if (job.node() == 0) {
    job.free(shared);
    job.free(own);
  }
  job.barrier();
}

/// Nothing may look at what is cached.
void measure_idle_barrier(Job& job, const Options& options, std::string_view protocol, std::vector<Row>& rows) {
  const std::size_t much = std::size_t{1} << (options.quick ? 24 : 30);
  const int rounds = options.quick ? 20 : 200;
  auto* small = job.allocate_all<std::uint64_t>((std::size_t{1} << 20) / 8, {.placement = Placement::at(1), .protocol = protocol});
  const auto cache = [&](const std::uint64_t* data, std::size_t bytes) {
    job.touch(data, bytes, false);
    job.barrier();
  };
  // The protocol's own part beside the whole: what waiting for the other node costs depends on who sleeps.
  struct Cost {
    Series whole, protocol;
  } little, large;
  const Stats& stats = detail::Runtime::current("netvm-perf").stats;
  const auto measure = [&](Cost& cost, int batches) {
    for (int b = 0; b < batches; ++b) {
      job.barrier();
      const std::uint64_t before = stats.get(Stat::protocol_ns);
      cost.whole.add(time_batch(rounds, [&](int) { job.barrier(); }));
      cost.protocol.add(static_cast<double>(stats.get(Stat::protocol_ns) - before) / rounds);
    }
  };
  cache(small, std::size_t{1} << 20);
  measure(little, (options.batches + 1) / 2);
  auto* big = job.allocate_all<std::uint64_t>(much / 8, {.placement = Placement::at(1), .protocol = protocol});
  cache(big, much);
  measure(large, options.batches);
  // Half of the little ones come before, half after: a machine that changes its pace meanwhile shows in both.
  if (job.node() == 0) job.free(big);
  job.barrier();
  std::this_thread::sleep_for(
      std::chrono::milliseconds(options.quick ? 5 : 100));  // what a node does about freed memory, it does behind the call
  measure(little, options.batches / 2);
  if (job.node() == 0) {
    rows.push_back(make_row(fmt::format("barrier, {} MiB cached, {}", much >> 20, protocol), large.whole, "the same with 1 MiB cached",
                            little.whole, 1.1));
    // Protocols that have nothing to tell do not ask the clock.
    if (large.protocol.median() > 0 || little.protocol.median() > 0) {
      rows.push_back(make_row(fmt::format("... its protocol's part, {}", protocol), large.protocol, "the same with 1 MiB cached",
                              little.protocol, 1.1));
    }
    job.free(small);
  }
  job.barrier();
}

// What a release does beyond comparing and copying, where it does.
const char* release_row(std::string_view protocol) {
  if (protocol == "erc" || protocol == "update") return "release (message, answers of all copies), every second double written";
  if (protocol == "entry") return "release (image for the next holder), every second double written";
  return "release, every second double written";
}

void add_rows(const dsm::Traits& traits, const std::string& trap, const Figures& figures, const Floors& floors, std::vector<Row>& rows) {
  const auto row = [&](const char* what, const Series& measured, const std::string& floor_name, const Series& floor, double aim) {
    if (!measured.empty()) rows.push_back(make_row(fmt::format("{}, {}", what, traits.name), measured, floor_name, floor, aim));
  };
  Series allowed;  // a sequential read may cost this much
  allowed.add(floors.copy.median() + 1500);
  const std::string read_floor = "bare " + trap + " fault + 4 KiB copy";
  const std::string upgrade_floor = "bare " + trap + " upgrade";
  row("page read miss", figures.read_miss, read_floor, floors.read, 1.5);
  row("write upgrade", figures.upgrade, upgrade_floor + " + 4 KiB copy", floors.upgrade, 1.3);
  // The other node has the page, and loses a right first: two nodes' mechanisms, one after the other.
  if (traits.consistency == dsm::Consistency::sequential) {
    row("page read miss", figures.read_miss, read_floor + " + the writer's write protection", floors.read_protect, 0);
    row("write upgrade", figures.upgrade, upgrade_floor + " + the reader's revocation", floors.upgrade_revoke, 0);
    // And without that. Of a page that nobody ever wrote, sc-fixed and sc-dynamic move no bytes.
    const bool copies = traits.name == "sc-directory";
    row("read miss, its home reads it too, never written", figures.read_miss_unwritten, copies ? read_floor : "bare " + trap + " fault",
        copies ? floors.read : floors.bare_read, 1.5);
    row("write upgrade, no other node has the page", figures.upgrade_alone, upgrade_floor, floors.bare_upgrade, 1.3);
  }
  row("page read miss, the other node asleep", figures.read_miss_asleep, read_floor, floors.read, 0);
  row("write upgrade, the other node asleep", figures.upgrade_asleep, upgrade_floor + " + 4 KiB copy", floors.upgrade, 0);
  row("read in sequence, a page", figures.sequential, "4 KiB copy + 1.5 us", allowed, 1);
  row(release_row(traits.name), figures.release, "diff + copy of the changed bytes", floors.diff_and_copy, 2);
  row("revoking many pages, a page", figures.revoke, "bare " + trap + ", one call for the same pages", figures.bare_revoke, 2);
}

}  // namespace

std::vector<Row> measure_dsm(Job& job, const Options& options, ProgressPipe& progress) {
  const std::size_t pages = options.quick ? 64 : 1024;
  const int batches = std::max(3, options.batches / 3);
  std::vector<Row> rows;
  auto* lock = job.allocate_all<mutex>();
  Signals signals(job);
  for (const dsm::ProtocolEntry& entry : dsm::protocols()) {
    const std::string_view protocol = entry.traits.name;
    if (!options.protocols.empty() && std::find(options.protocols.begin(), options.protocols.end(), protocol) == options.protocols.end()) {
      continue;
    }
    if (job.node() == 0) progress.say(fmt::format("coherence under {}", protocol));
    auto* data = job.allocate_all<std::uint64_t>(
        pages * kWordsPerPage, {.placement = Placement::at(1), .protocol = protocol, .alignment = kPageSize, .granularity = kPageSize});
    make_frames(data, pages);
    lock->bind(data, std::min(pages, kReleasedPages) * kWordsPerPage);
    Bare bare(pages);
    Floors floors;
    Figures figures;
    Figures warm_up;
    Measurement measurement(job, entry.traits, bare.trap(), pages, data, lock, signals);
    for (int b = 0; b <= batches; ++b) {
      if (job.node() == 0) bare.measure(floors);
      job.barrier();
      measurement.batch(static_cast<unsigned>(2 * b), b == 0 ? warm_up : figures);
      if (entry.traits.consistency == dsm::Consistency::sequential) {
        measure_alone(job, protocol, pages, b == 0 ? warm_up : figures, static_cast<unsigned>(b));
      }
    }
    if (job.node() == 0) {
      add_rows(entry.traits, std::string(to_string(bare.trap())), figures, floors, rows);
      job.free(data);
    }
    job.barrier();
    measure_idle_barrier(job, options, protocol, rows);
  }
  return rows;
}

}  // namespace netvm::perf
