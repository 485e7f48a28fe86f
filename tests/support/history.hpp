// Histories: what each thread of a racy program stored and loaded, and whether one order of all of it explains every load: whether the run was
// sequentially consistent (Lamport 1979). The problem is NP-complete in general (Gibbons, Korach 1997); values that are stored once each, few
// threads and few words keep it small.
//
// The search goes through orders of execution, one operation at a time. What keeps it short:
//  1. A load that may go, goes: it changes nothing, so it is never wrong to take it first. Only stores are chosen among.
//  2. A value is stored once: a store that overwrites a value which somebody has yet to load leads nowhere.
//  3. What can still happen depends on how far each thread is and which value each word has: a state from which no way was found is not entered again.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace netvm::test {

/// One access to a word. Words are 0 at first.
struct MemoryOp {
  bool is_store = false;
  std::uint32_t word = 0;
  std::uint64_t value = 0;  ///< stored: not 0, and stored to that word only once; or loaded
};

/// By thread, in program order.
using History = std::vector<std::vector<MemoryOp>>;

enum class Verdict : std::uint8_t {
  sequential,  ///< there is such an order
  violated,    ///< there is none
  undecided,   ///< the search was given up
};

struct Explanation {
  Verdict verdict = Verdict::undecided;
  std::vector<std::uint32_t> order;  ///< whose operation comes next; of a violation: the longest beginning that explains what it can
  std::uint64_t states = 0;          ///< that the search went through
};

[[nodiscard]] Explanation explain(const History& history, std::uint64_t most_states = 1'000'000);

/// The history, a line a thread, and where the longest explanation ends.
[[nodiscard]] std::string describe(const History& history, const Explanation& explanation);

}  // namespace netvm::test
