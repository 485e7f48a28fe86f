// Litmus tests as data: a few threads of a few operations on zeroed variables, the outcomes that a strong memory would not show, and the
// consistency under which they may be seen. A runner executes one many times on any Machine.
//
// Registers start as 0 and are shared numbers a, b, c, d: each is loaded by one thread. Threads sit on different nodes where the machine has
// enough, else some share one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dsm/protocol.hpp"
#include "tests/support/machine.hpp"

namespace netvm::litmus {

enum class Act : std::uint8_t { store, load, lock, unlock, barrier };
struct Op {
  Act act;
  std::uint8_t what = 0;    ///< variable, or lock
  std::uint8_t number = 0;  ///< store: the value; load: the register
};

/// Where the variables lie.
enum class Spread : std::uint8_t {
  any,
  apart /* a page each */,
  together /* one page, words of their own */,
  adjacent /* bytes of one word */,
  across /* words that lie across two pages each */
};
/// Where a variable lies in memory of kVariables + 1 pages. Not for Spread::any.
[[nodiscard]] std::uint64_t offset_of(std::uint8_t variable, Spread spread);

/// A variable of eight bytes holds its value in each of them; a load that finds different ones saw a store half.
inline constexpr std::uint8_t kTorn = 0xff;
[[nodiscard]] constexpr std::uint64_t widen(std::uint8_t value) { return value * 0x0101'0101'0101'0101; }
[[nodiscard]] constexpr std::uint8_t narrow(std::uint64_t word) {
  return word == widen(static_cast<std::uint8_t>(word)) ? static_cast<std::uint8_t>(word) : kTorn;
}

/// register == value
struct Equals {
  std::uint8_t reg;
  std::uint8_t value;
};

struct Litmus {
  std::string_view name;
  std::vector<std::vector<Op>> threads;
  std::vector<std::vector<Equals>> weak;  ///< any of these conjunctions
  bool racy = false;                      ///< a program whose outcome depends on the protocol; ThreadSanitizer rightly complains of it
  /// The strongest consistency under which a protocol is allowed to show it; nullopt: none is.
  std::optional<dsm::Consistency> may_show = {};
  Spread spread = Spread::any;
  int home_at_thread = -1;  ///< all variables are homed at this thread's node; -1: by chance
};

inline constexpr std::uint8_t kVariables = 4, kLocks = 2, kRegisters = 4;

[[nodiscard]] const std::vector<Litmus>& table();

/// What a number of runs showed.
struct Tally {
  std::uint64_t runs = 0;
  std::uint64_t weak = 0;
  std::string first_weak;  ///< registers and circumstances of the first weak outcome
  std::string failure;     ///< the machine's complaint, if it did not end well
};

struct RunOptions {
  std::string_view protocol;
  std::uint64_t seed = 1;
  std::uint32_t iterations = 8;
  Nanos longest_pause = 12'000;
};
[[nodiscard]] Tally run(test::Machine& machine, const Litmus& litmus, const RunOptions& options);

[[nodiscard]] bool is_weak(const Litmus& litmus, const std::uint8_t* registers);
/// Calls visit(lock, variable) for what the lock guards: what some thread uses while it holds it.
template <class Visit>
void for_each_binding(const Litmus& litmus, Visit&& visit) {
  bool guards[kLocks][kVariables] = {};
  for (const auto& thread : litmus.threads) {
    bool held[kLocks] = {};
    for (const Op& op : thread) {
      if (op.act == Act::lock || op.act == Act::unlock) held[op.what] = op.act == Act::lock;
      if (op.act != Act::load && op.act != Act::store) continue;
      for (std::size_t lock = 0; lock < kLocks; ++lock) guards[lock][op.what] |= held[lock];
    }
  }
  for (std::uint8_t lock = 0; lock < kLocks; ++lock) {
    for (std::uint8_t v = 0; v < kVariables; ++v) {
      if (guards[lock][v]) visit(lock, v);
    }
  }
}

[[nodiscard]] bool may_show(const Litmus& litmus, std::string_view protocol);

/// Where netvm_litmus was asked to write docs/litmus.md; empty: nowhere.
inline std::string& document_path() {
  static std::string path;
  return path;
}

/// Collects tallies and prints what was allowed and seen.
class Report {
 public:
  void add(const Litmus& litmus, std::string_view protocol, const Tally& tally);
  void print(std::string_view title) const;
  /// A row for each litmus test, a column for each protocol.
  [[nodiscard]] std::string markdown() const;

 private:
  struct Row {
    const Litmus* litmus;
    std::string protocol;
    Tally tally;
  };
  std::vector<Row> rows_;
};

}  // namespace netvm::litmus
