// The checker for sequential consistency, against histories made by hand and by a machine that is sequential.
#include "tests/support/history.hpp"

#include <doctest/doctest.h>

#include <vector>

#include "runtime/random.hpp"

namespace netvm::test {
namespace {

enum : std::uint32_t { x, y };
MemoryOp W(std::uint32_t word, std::uint64_t value) { return {true, word, value}; }
MemoryOp R(std::uint32_t word, std::uint64_t value) { return {false, word, value}; }

Verdict judge(const History& history) { return explain(history).verdict; }

TEST_CASE("nothing, and what one thread alone sees") {
  CHECK(judge({}) == Verdict::sequential);
  CHECK(judge({{}, {}}) == Verdict::sequential);
  CHECK(judge({{R(x, 0), W(x, 1), R(x, 1), W(x, 2), R(x, 2)}}) == Verdict::sequential);
  CHECK(judge({{W(x, 1), R(x, 0)}}) == Verdict::violated);
  CHECK(judge({{R(x, 1), W(x, 1)}}) == Verdict::violated);
  CHECK(judge({{W(x, 1), W(x, 2), R(x, 1)}}) == Verdict::violated);
}

TEST_CASE("a value that nobody stored") {
  CHECK(judge({{R(x, 7)}}) == Verdict::violated);
  CHECK(judge({{W(y, 7)}, {R(x, 7)}}) == Verdict::violated);
}

TEST_CASE("the classical outcomes") {
  // message passing
  CHECK(judge({{W(x, 1), W(y, 1)}, {R(y, 1), R(x, 1)}}) == Verdict::sequential);
  CHECK(judge({{W(x, 1), W(y, 1)}, {R(y, 0), R(x, 1)}}) == Verdict::sequential);
  CHECK(judge({{W(x, 1), W(y, 1)}, {R(y, 1), R(x, 0)}}) == Verdict::violated);
  // store buffering
  CHECK(judge({{W(x, 1), R(y, 0)}, {W(y, 1), R(x, 1)}}) == Verdict::sequential);
  CHECK(judge({{W(x, 1), R(y, 0)}, {W(y, 1), R(x, 0)}}) == Verdict::violated);
  // load buffering
  CHECK(judge({{R(y, 1), W(x, 1)}, {R(x, 1), W(y, 1)}}) == Verdict::violated);
  // coherence
  CHECK(judge({{W(x, 1)}, {R(x, 1), R(x, 0)}}) == Verdict::violated);
  CHECK(judge({{W(x, 1)}, {W(x, 2)}, {R(x, 1), R(x, 2)}, {R(x, 2), R(x, 1)}}) == Verdict::violated);
  CHECK(judge({{W(x, 1)}, {W(x, 2)}, {R(x, 1), R(x, 2)}, {R(x, 1), R(x, 2)}}) == Verdict::sequential);
  // independent reads of independent writes
  CHECK(judge({{W(x, 1)}, {W(y, 1)}, {R(x, 1), R(y, 0)}, {R(y, 1), R(x, 0)}}) == Verdict::violated);
  CHECK(judge({{W(x, 1)}, {W(y, 1)}, {R(x, 1), R(y, 0)}, {R(y, 1), R(x, 1)}}) == Verdict::sequential);
  // two words, each stored by both
  CHECK(judge({{W(x, 1), W(y, 2), R(y, 1)}, {W(y, 1), W(x, 2), R(x, 1)}}) == Verdict::violated);
}

TEST_CASE("a wrong first choice is taken back") {
  // Thread 0's store must wait until thread 1's value has been seen, although it could go at once.
  CHECK(judge({{W(x, 1)}, {W(x, 2), W(y, 1)}, {R(x, 2), R(y, 1), R(x, 2), R(x, 1)}}) == Verdict::sequential);
}

TEST_CASE("what a sequential machine did is explained, and no longer if one load saw something older") {
  SplitMix64 random(4);
  std::uint32_t violated = 0;
  for (int round = 0; round < 300; ++round) {
    const std::uint64_t threads = 2 + random.below(4);
    const std::uint64_t words = 1 + random.below(4);
    History history(threads);
    std::vector<std::vector<std::uint64_t>> values(words, {0});  // that each word had
    std::uint64_t next = 0;
    for (std::uint64_t i = 10 + random.below(50); i != 0; --i) {
      auto& thread = history[random.below(threads)];
      const auto word = static_cast<std::uint32_t>(random.below(words));
      const bool is_store = random.below(2) == 0;
      if (is_store) values[word].push_back(++next);
      thread.push_back({is_store, word, values[word].back()});
    }
    const Explanation explanation = explain(history);
    REQUIRE_MESSAGE(explanation.verdict == Verdict::sequential, describe(history, explanation));
    // The order that it gives is one.
    std::vector<std::uint64_t> memory(words);
    std::vector<std::size_t> at(threads);
    for (const std::uint32_t t : explanation.order) {
      const MemoryOp& op = history[t][at[t]++];
      if (op.is_store) memory[op.word] = op.value;
      CHECK(memory[op.word] == op.value);
    }
    // A load sees what its own thread knows to be overwritten.
    for (auto& thread : history) {
      std::vector<bool> stored(words);
      bool spoilt = false;
      for (MemoryOp& op : thread) {
        if (op.is_store) stored[op.word] = true;
        if (op.is_store || !stored[op.word] || spoilt) continue;
        op.value = 0;
        spoilt = true;
      }
      if (!spoilt) continue;
      CHECK(judge(history) == Verdict::violated);
      ++violated;
      break;
    }
  }
  CHECK(violated > 100);
}

TEST_CASE("a search that is given up says so") {
  History history;
  for (std::uint32_t t = 0; t < 6; ++t) {
    auto& thread = history.emplace_back();
    for (std::uint32_t i = 0; i < 8; ++i) thread.push_back(W(i % 4, t * 100 + i + 1));
    thread.push_back(R(0, 1'000'000));  // nobody stored that: all orders of the stores are tried
  }
  CHECK(explain(history, 100).verdict == Verdict::undecided);
}

}  // namespace
}  // namespace netvm::test
