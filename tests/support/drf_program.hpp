// Random programs without data races, checked against a ledger: every load must return what was stored last before it.
//
// A plan follows from the seed: objects of 1 to 64 bytes, packed over a few pages without regard to words and page borders, each with a lock
// that it may share with others. A program is a sequence of phases between barriers. In each phase an object is guarded by its
// lock, or owned by one thread, or read by all. Whoever stores to an object enters it in the ledger, and whoever loads compares. What was
// never stored must be zero, so a machine that runs several programs also shows whether memory that was freed is handed out clean.
//
// Rich programs have more: several regions, each of a protocol of its own; objects of up to almost two pages; stores of what is there already; locks
// nested three deep; barriers in two halves, with work on what both phases use alike in between; memory of a thread's own that is written, freed before
// any release, and had again under another protocol. (Plain ones stay as they are, so that seeds that once found a bug still do.)
//
// Where there are runs, one more region: columns of bytes through all of its pages, read and written page by page, so that pages are fetched ahead. Impatient
// threads try locks, wait for them for a time or until they are asked to stop, and do something else where that is in vain; other waits they begin again. Threads
// beside the section, one on each node, take part in no barrier: they lock and write what is guarded by its lock in all phases, also while their node is at
// a barrier, and ask others to stop.
//
// Programs with objects guard with other things than mutexes, too: semaphores of one permit, reader-writer locks (some then only read), monitors (a flag in
// shared memory under a mutex, waited for in a wait queue at the mutex's address). Phases end with a latch, with semaphore and flag, with barriers of
// some threads that only together make everybody wait for everybody, or with the machine's barrier; under a protocol that promises less than
// release consistency only with the last, and without monitors; under one that moves what is bound to locks with mutexes and reader-writer locks alone.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tests/support/machine.hpp"

namespace netvm::test {

struct DrfOptions {
  std::string_view protocol;
  std::uint64_t seed = 1;
  std::uint32_t phases = 4;
  std::uint32_t steps = 12;  ///< of each thread in each phase
  std::uint32_t max_pages = 4;
  std::uint32_t max_objects = 24;
  Nanos longest_pause = 6'000;
  bool any_granularity = true;  ///< the seed chooses one; else units are pages
  std::size_t granularity = 0;  ///< not 0: this one
  bool rich = false;
  bool objects = false;         ///< see above, as for all that follow
  std::uint32_t run_pages = 0;  ///< not 0: there are runs, of so many pages at most (at least 4)
  bool impatient = false;
  bool beside = false;
};
/// All of that, as the seed has it.
[[nodiscard]] DrfOptions everything(std::string_view protocol, std::uint64_t seed);

struct DrfResult {
  bool well = true;
  std::string text;  ///< the first wrong load (of this process), or the machine's complaint
  std::uint64_t trace_hash = 0;
  std::uint64_t loads = 0;     ///< compared, on this process
  std::uint64_t given_up = 0;  ///< locks that were not had, likewise
};

[[nodiscard]] DrfResult run_drf_program(Machine& machine, const DrfOptions& options);

}  // namespace netvm::test
