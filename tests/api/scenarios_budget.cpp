// More memory than NETVM_MEMORY lets a node keep: coherent and symmetric.
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "dsm/api/job_runtime.hpp"
#include "tests/api/scenario.hpp"

namespace netvm::test {

namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kWords = kPage / 8;

/// What NETVM_MEMORY says, in pages; without it enough for a small run.
std::uint64_t budget() {
  const char* text = std::getenv("NETVM_MEMORY");
  if (text == nullptr) return 64;
  char* unit = nullptr;
  const std::uint64_t number = std::strtoull(text, &unit, 10);
  return (*unit == 'K' ? number << 10 : *unit == 'M' ? number << 20 : number) / kPage;
}

/// How many pages of an open file from this one on are in memory. 0 if it is open no more: it was the look of another thread of this node.
std::uint64_t data_pages(const std::string& path, std::uint64_t from) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);  // of our own: the runtime's offset stays
  if (fd < 0 && errno == ENOENT) return 0;
  EXPECT(fd >= 0);
  std::uint64_t pages = 0;
  auto at = static_cast<off_t>(from * kPage);
  while ((at = lseek(fd, at, SEEK_DATA)) >= 0) {
    const off_t end = lseek(fd, at, SEEK_HOLE);
    pages += static_cast<std::uint64_t>(end - at) / kPage;
    at = end;
  }
  close(fd);
  return pages;
}

/// Memory of the frames of each node of this job, in pages, without the runtime's own tables: they are files of this process, too.
std::vector<std::uint64_t> pages_in_memory() {
  const std::uint64_t tables = detail::Runtime::current("a scenario").layout.system.count;
  std::vector<std::uint64_t> counts;
  DIR* folder = opendir("/proc/self/fd");
  while (const dirent* entry = readdir(folder)) {
    const std::string path = std::string("/proc/self/fd/") + entry->d_name;
    std::array<char, 256> target{};
    if (readlink(path.c_str(), target.data(), target.size() - 1) <= 0) continue;
    if (std::string(target.data()).find("netvm-frames") != std::string::npos) counts.push_back(data_pages(path, tables));
  }
  closedir(folder);
  return counts;
}

/// The budget does not count the runtime's own tables, and pinned pages may exceed it for a moment. So may what one look counts: it walks through a file whose
/// pages come and go meanwhile, and who loses the processor in the middle sees many of them twice. What is too much stays too much.
void expect_within_budget() {
  if (std::getenv("NETVM_MEMORY") == nullptr) return;
  constexpr int kLooks = 20;
  std::vector<std::uint64_t> counts;
  const auto within = [&] { return std::ranges::all_of(counts, [](std::uint64_t pages) { return pages <= budget() + 64; }); };
  for (int look = 0; look < kLooks; ++look) {
    counts = pages_in_memory();
    EXPECT(!counts.empty());
    if (within()) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  for (const std::uint64_t pages : counts) EXPECT(pages <= budget() + 64);
}

/// Everybody writes his pages of a region of four times the budget, and everybody reads all of it; twice, so that pages change after they were saved.
void out_of_core(Job& job) {
  const std::uint64_t pages = 4 * budget();
  for (const std::string_view protocol : protocol_names()) {
    auto* words = job.allocate_all<std::uint64_t>(pages * kWords, {.protocol = protocol});
    job.parallel([&](Thread& me) {
      for (std::uint64_t round = 1; round <= 2; ++round) {
        for (std::uint64_t p = static_cast<std::uint64_t>(me.rank()); p < pages; p += static_cast<std::uint64_t>(me.count())) {
          for (std::uint64_t w = p % 7; w < kWords; w += 61) words[p * kWords + w] = p * 1000 + w + round;
        }
        expect_within_budget();
        me.barrier();
        for (std::uint64_t p = 0; p < pages; ++p) {
          for (std::uint64_t w = p % 7; w < kWords; w += 61) EXPECT(words[p * kWords + w] == p * 1000 + w + round);
        }
        expect_within_budget();
        me.barrier();
      }
    });
    if (job.node() == 0) job.free(words);
    job.barrier();
  }
}

/// Symmetric memory of four times the budget: its owner's loads and stores, and puts, gets and atomics of others, most of them on pages that are away.
void out_of_core_symmetric(Job& job) {
  const std::uint64_t pages = 4 * budget();
  auto* words = job.symmetric_all<std::uint64_t>(pages * kWords);
  const int next = (job.node() + 1) % job.nodes();
  const int last = (job.node() + job.nodes() - 1) % job.nodes();
  for (std::uint64_t p = 0; p < pages; ++p) words[p * kWords] = p + static_cast<std::uint64_t>(job.node()) * 7;
  expect_within_budget();
  job.barrier();
  for (std::uint64_t p = 0; p < pages; ++p) {
    const std::uint64_t value = p * 3 + static_cast<std::uint64_t>(job.node());
    put(next, &words[p * kWords + 1], &value);
    EXPECT(fetch_add(next, &words[p * kWords + 2], p + 1) == 0);
  }
  job.barrier();
  expect_within_budget();
  for (std::uint64_t p = 0; p < pages; ++p) {
    EXPECT(words[p * kWords] == p + static_cast<std::uint64_t>(job.node()) * 7);
    EXPECT(words[p * kWords + 1] == p * 3 + static_cast<std::uint64_t>(last));
    EXPECT(words[p * kWords + 2] == p + 1);
    std::uint64_t theirs = 0;
    get(next, &words[p * kWords], &theirs);
    EXPECT(theirs == p + static_cast<std::uint64_t>(next) * 7);
  }
  job.barrier();
  // From and into symmetric memory of one's own, a long piece at once.
  const std::uint64_t half = pages / 2 * kWords;
  put(next, words + half, words, half);
  job.barrier();
  for (std::uint64_t p = 0; p < pages / 2; ++p) EXPECT(words[half + p * kWords] == p + static_cast<std::uint64_t>(last) * 7);
  expect_within_budget();
  job.barrier();
}

}  // namespace

std::vector<Scenario> budget_scenarios() { return {{"out_of_core", out_of_core}, {"out_of_core_symmetric", out_of_core_symmetric}}; }

}  // namespace netvm::test
