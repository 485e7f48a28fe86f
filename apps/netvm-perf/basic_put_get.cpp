#include <atomic>
#include <cstring>
#include <vector>

#include "apps/netvm-perf/basic.hpp"

namespace netvm::perf {

namespace {

constexpr std::size_t kStream = 64 * 1024;

}  // namespace

void measure_put_get(Job& job, const Options& options, FloorPartner* partner, std::vector<Row>& rows) {
  auto* words = job.symmetric_all<std::uint64_t>(64);
  auto* bytes = job.symmetric_all<std::byte>(kStream);
  if (job.node() == 0) {
    SharedBuffer local(kStream);
    std::vector<std::byte> source(kStream, std::byte{7});
    std::uint64_t value = 1;
    std::atomic_ref<std::uint64_t> counter(*reinterpret_cast<std::uint64_t*>(local.data()));
    Series put8, store8, put64k, copy64k, get8, add, bare_add;
    put(1, bytes, source.data(), kStream);  // touches everything once
    for (int b = 0; b < options.batches; ++b) {
      store8.add(partner->store_ns(20000));
      put8.add(time_batch(20000, [&](int) { put(1, words, &value); }));
      copy64k.add(time_batch(200, [&](int) {
        std::memcpy(local.data(), source.data(), kStream);
        std::atomic_signal_fence(std::memory_order_seq_cst);
      }));
      put64k.add(time_batch(200, [&](int) { put(1, bytes, source.data(), kStream); }));
      get8.add(time_batch(20000, [&](int) { get(1, words, &value); }));
      bare_add.add(time_batch(20000, [&](int) { counter.fetch_add(1); }));
      add.add(time_batch(20000, [&](int) { fetch_add(1, words + 8, 1); }));
    }
    rows.push_back(make_row("put 8 B", put8, "bare release store to shared memory", store8, 0));
    rows.push_back(make_row("put 64 KiB", put64k, "memcpy", copy64k, 0.8, true));
    rows.push_back(make_row("get 8 B", get8, "bare release store to shared memory", store8, 0));
    rows.push_back(make_row("fetch_add", add, "bare lock xadd", bare_add, 0));
  }
  job.barrier();

  // A put that is noticed: the other node spins on its word. The bare form is the hand-over of a cache line.
  const int rounds = options.quick ? 200 : 5000;
  Series noticed, hand_over;
  std::atomic_ref<std::uint64_t> mine(words[16]);
  for (int b = 0; b < options.batches; ++b) {
    if (job.node() == 0) hand_over.add(partner->flag_hand_over_ns(rounds));
    job.barrier();
    const std::uint64_t base = static_cast<std::uint64_t>(b) * static_cast<std::uint64_t>(rounds);
    if (job.node() <= 1) {
      const std::int64_t begin = clock_ns();
      for (std::uint64_t i = base + 1; i <= base + static_cast<std::uint64_t>(rounds); ++i) {
        if (job.node() == 0) put(1, words + 16, &i);
        while (mine.load(std::memory_order_acquire) < i) __builtin_ia32_pause();  // acquire: partner is the put's placement
        if (job.node() == 1) put(0, words + 16, &i);
      }
      noticed.add(static_cast<double>(clock_ns() - begin) / (2.0 * rounds));
    }
    job.barrier();
  }
  if (job.node() == 0)
    rows.push_back(make_row("put 8 B, seen by the spinning target", noticed, "bare store and flag hand-over", hand_over, 3));
}

void measure_busy_target(Job& job, const Options& options, std::vector<Row>& rows) {
  const std::int64_t busy_ns = options.quick ? 200'000'000 : 2'000'000'000;
  constexpr std::size_t kPages = 256;
  for (const char* protocol : {"hlrc", "sc-directory"}) {
    auto* word = job.symmetric_all<std::uint64_t>(1);
    auto* pages = job.allocate_all<std::uint64_t>(kPages * 512, {.placement = Placement::at(1), .protocol = protocol});
    if (job.node() == 1) {
      for (std::size_t p = 0; p < kPages; ++p) pages[p * 512] = p + 1;
    }
    job.barrier();
    if (job.node() == 1) {  // computes, and calls nothing
      volatile std::uint64_t x = 1;
      for (const std::int64_t end = clock_ns() + busy_ns; clock_ns() < end;) x = x * 3 + 1;
    } else if (job.node() == 0) {
      const auto order = shuffled(kPages, 1);  // read in sequence they would come before they are asked for
      const std::int64_t begin = clock_ns();
      Series gets, misses;
      std::uint64_t value = 0;
      const std::int64_t step = busy_ns * 8 / 10 / static_cast<std::int64_t>(kPages);
      for (std::size_t p = 0; p < kPages; ++p) {
        gets.add(time_batch(1, [&](int) { get(1, word, &value); }));
        misses.add(time_batch(1, [&](int) { value += *static_cast<volatile std::uint64_t*>(pages + order[p] * 512); }));
        while (clock_ns() < begin + static_cast<std::int64_t>(p + 1) * step) __builtin_ia32_pause();
      }
      const auto add = [&](const std::string& name, const Series& series) {
        Row row = make_row(name, series, "", {}, 0);
        row.note = "slowest of " + std::to_string(kPages) + ": " + std::to_string(static_cast<long>(series.quantile(1) / 1000)) +
                   " us, target computing " + std::to_string(busy_ns / 1'000'000) + " ms";
        rows.push_back(row);
      };
      if (std::string_view(protocol) == "hlrc") add("get 8 B from a computing node", gets);
      add(std::string("page miss at a computing home, ") + protocol, misses);
    }
    job.barrier();
    if (job.node() == 0) job.free(pages);
  }
}

}  // namespace netvm::perf
