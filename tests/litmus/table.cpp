#include "tests/litmus/litmus.hpp"

namespace netvm::litmus {

namespace {

enum : std::uint8_t { x, y, z, w };
enum : std::uint8_t { a, b, c, d };
enum : std::uint8_t { k, l };

constexpr Op W(std::uint8_t variable, std::uint8_t value) { return {Act::store, variable, value}; }
constexpr Op R(std::uint8_t variable, std::uint8_t reg) { return {Act::load, variable, reg}; }
constexpr Op L(std::uint8_t lock) { return {Act::lock, lock, 0}; }
constexpr Op U(std::uint8_t lock) { return {Act::unlock, lock, 0}; }
constexpr Op B() { return {Act::barrier, 0, 0}; }

// A whole critical section.
std::vector<Op> in_lock(std::uint8_t lock, std::vector<Op> ops) {
  ops.insert(ops.begin(), L(lock));
  ops.push_back(U(lock));
  return ops;
}
std::vector<Op> all_of(std::vector<std::vector<Op>> parts) {
  std::vector<Op> ops;
  for (const auto& part : parts) ops.insert(ops.end(), part.begin(), part.end());
  return ops;
}

constexpr std::optional<dsm::Consistency> kNone;
constexpr auto kAlways = dsm::Consistency::sequential;  // two accesses to two pages are two accesses everywhere
constexpr auto kRelaxed = dsm::Consistency::release;    // what a racy program betrays
constexpr auto kScoped = dsm::Consistency::scope;       // what was not written, or not read, under the lock

std::vector<Litmus> racy_tests() {
  return {
      {"MP racy", {{W(x, 1), W(y, 1)}, {R(y, a), R(x, b)}}, {{{a, 1}, {b, 0}}}, true, kRelaxed},
      {"SB racy", {{W(x, 1), R(y, a)}, {W(y, 1), R(x, b)}}, {{{a, 0}, {b, 0}}}, true, kRelaxed},
      {"LB racy", {{R(y, a), W(x, 1)}, {R(x, b), W(y, 1)}}, {{{a, 1}, {b, 1}}}, true, kNone},
      {"CoRR racy", {{W(x, 1)}, {R(x, a), R(x, b)}}, {{{a, 1}, {b, 0}}}, true, kNone},
      {"CoWR racy", {{W(x, 1), R(x, a)}, {W(x, 2), R(x, b)}}, {{{a, 0}}, {{b, 0}}}, true, kNone},
      {"CoRW racy", {{R(x, a), W(x, 1)}, {W(x, 2)}}, {{{a, 1}}}, true, kNone},
      {"CoWW racy", {{W(x, 1), W(x, 2)}, {R(x, a), R(x, b)}}, {{{a, 2}, {b, 1}}, {{a, 2}, {b, 0}}, {{a, 1}, {b, 0}}}, true, kNone},
      {"IRIW racy", {{W(x, 1)}, {W(y, 1)}, {R(x, a), R(y, b)}, {R(y, c), R(x, d)}}, {{{a, 1}, {b, 0}, {c, 1}, {d, 0}}}, true, kRelaxed},
      {"IRIW racy, one variable",
       {{W(x, 1)}, {W(x, 2)}, {R(x, a), R(x, b)}, {R(x, c), R(x, d)}},
       {{{a, 1}, {b, 2}, {c, 2}, {d, 1}}},
       true,
       kRelaxed},
      {"WRC racy", {{W(x, 1)}, {R(x, a), W(y, 1)}, {R(y, b), R(x, c)}}, {{{a, 1}, {b, 1}, {c, 0}}}, true, kRelaxed},
      {"RWC racy", {{W(x, 1)}, {R(x, a), R(y, b)}, {W(y, 1), R(x, c)}}, {{{a, 1}, {b, 0}, {c, 0}}}, true, kRelaxed},
      {"ISA2 racy", {{W(x, 1), W(y, 1)}, {R(y, a), W(z, 1)}, {R(z, b), R(x, c)}}, {{{a, 1}, {b, 1}, {c, 0}}}, true, kRelaxed},
      {"R racy + barrier",
       {{W(x, 1), W(y, 1), B(), R(y, c)}, {W(y, 2), R(x, a), B(), R(y, b)}},
       {{{a, 0}, {b, 2}}, {{a, 0}, {c, 2}}},
       true,
       kRelaxed},
      {"S racy + barrier",
       {{W(x, 2), W(y, 1), B(), R(x, c)}, {R(y, a), W(x, 1), B(), R(x, d)}},
       {{{a, 1}, {c, 2}}, {{a, 1}, {d, 2}}},
       true,
       kRelaxed},
      {"2+2W racy + barrier, nodes disagree",
       {{W(x, 1), W(y, 2), B(), R(x, a), R(y, b)}, {W(y, 1), W(x, 2), B(), R(x, c), R(y, d)}},
       {{{a, 1}, {c, 2}}, {{a, 2}, {c, 1}}, {{b, 1}, {d, 2}}, {{b, 2}, {d, 1}}},
       true,
       kRelaxed},
      {"2+2W racy + barrier, neither is seen",
       {{W(x, 1), W(y, 2), B(), R(x, a), R(y, b)}, {W(y, 1), W(x, 2), B(), R(x, c), R(y, d)}},
       {{{a, 0}}, {{b, 0}}, {{c, 0}}, {{d, 0}}},
       true,
       kNone},
      {"2+2W racy + barrier, both first",
       {{W(x, 1), W(y, 2), B(), R(x, a), R(y, b)}, {W(y, 1), W(x, 2), B(), R(x, c), R(y, d)}},
       {{{a, 1}, {b, 1}}},
       true,
       kRelaxed},
  };
}

// Every access under the one lock.
std::vector<Litmus> one_lock_tests() {
  return {
      {"MP in one lock", {in_lock(l, {W(x, 1), W(y, 1)}), in_lock(l, {R(y, a), R(x, b)})}, {{{a, 1}, {b, 0}}, {{a, 0}, {b, 1}}}},
      {"SB in one lock",
       {all_of({in_lock(l, {W(x, 1)}), in_lock(l, {R(y, a)})}), all_of({in_lock(l, {W(y, 1)}), in_lock(l, {R(x, b)})})},
       {{{a, 0}, {b, 0}}}},
      {"LB in one lock", {in_lock(l, {R(y, a), W(x, 1)}), in_lock(l, {R(x, b), W(y, 1)})}, {{{a, 1}, {b, 1}}, {{a, 0}, {b, 0}}}},
      {"CoRR in one lock", {in_lock(l, {W(x, 1)}), all_of({in_lock(l, {R(x, a)}), in_lock(l, {R(x, b)})})}, {{{a, 1}, {b, 0}}}},
      {"CoWR in one lock", {in_lock(l, {W(x, 1), R(x, a)}), in_lock(l, {W(x, 2), R(x, b)})}, {{{a, 0}}, {{a, 2}}, {{b, 0}}, {{b, 1}}}},
      {"CoWW in one lock",
       {all_of({in_lock(l, {W(x, 1)}), in_lock(l, {W(x, 2)})}), all_of({in_lock(l, {R(x, a)}), in_lock(l, {R(x, b)})})},
       {{{a, 2}, {b, 1}}, {{a, 2}, {b, 0}}, {{a, 1}, {b, 0}}}},
      {"WRC in one lock",
       {in_lock(l, {W(x, 1)}), in_lock(l, {R(x, a), W(y, 1)}), in_lock(l, {R(y, b), R(x, c)})},
       {{{a, 1}, {b, 1}, {c, 0}}}},
      {"ISA2 in one lock",
       {in_lock(l, {W(x, 1), W(y, 1)}), in_lock(l, {R(y, a), W(z, 1)}), in_lock(l, {R(z, b), R(x, c)})},
       {{{a, 1}, {b, 1}, {c, 0}}}},
      {"IRIW in one lock",
       {in_lock(l, {W(x, 1)}), in_lock(l, {W(y, 1)}), in_lock(l, {R(x, a), R(y, b)}), in_lock(l, {R(y, c), R(x, d)})},
       {{{a, 1}, {b, 0}, {c, 1}, {d, 0}}}},
      {"2+2W in one lock",
       {all_of({in_lock(l, {W(x, 1), W(y, 2)}), {B(), R(x, a), R(y, b)}}),
        all_of({in_lock(l, {W(y, 1), W(x, 2)}), {B(), R(x, c), R(y, d)}})},
       {{{a, 1}, {b, 1}}, {{a, 2}, {b, 2}}, {{a, 0}}, {{b, 0}}, {{a, 1}, {c, 2}}, {{a, 2}, {c, 1}}, {{b, 1}, {d, 2}}, {{b, 2}, {d, 1}}}},
      {"R in one lock",
       {all_of({in_lock(l, {W(x, 1), W(y, 1)}), {B(), R(y, c)}}), all_of({in_lock(l, {W(y, 2)}), in_lock(l, {R(x, a)}), {B(), R(y, b)}})},
       {{{a, 0}, {b, 2}}, {{a, 0}, {c, 2}}}},
      {"S in one lock",
       {all_of({in_lock(l, {W(x, 2)}), in_lock(l, {W(y, 1)}), {B(), R(x, c)}}),
        all_of({in_lock(l, {R(y, a)}), in_lock(l, {W(x, 1)}), {B(), R(x, d)}})},
       {{{a, 1}, {c, 2}}, {{a, 1}, {d, 2}}}},
      {"WRC in one lock, read before",
       {all_of({{B()}, in_lock(l, {W(x, 1)})}), all_of({{B()}, in_lock(l, {R(x, a), W(y, 1)})}),
        all_of({{R(x, d), B()}, in_lock(l, {R(y, b), R(x, c)})})},
       {{{a, 1}, {b, 1}, {c, 0}}}},
      {"written twice in a lock beside a neighbour, then a barrier",
       {all_of({in_lock(l, {W(x, 1)}), in_lock(l, {W(x, 2)}), {B(), R(x, a)}}), all_of({{W(z, 1)}, in_lock(l, {R(x, b)}), {B(), R(x, c)}})},
       {{{a, 0}}, {{a, 1}}, {{c, 0}}, {{c, 1}}},
       false,
       kNone,
       Spread::together},
      {"lost update in a lock", {in_lock(l, {R(x, a), W(x, 1)}), in_lock(l, {R(x, b), W(x, 2)})}, {{{a, 0}, {b, 0}}, {{a, 2}, {b, 1}}}},
  };
}

// Each variable under its own lock.
std::vector<Litmus> two_lock_tests() {
  const auto X = [](Op op) { return in_lock(k, {op}); };
  const auto Y = [](Op op) { return in_lock(l, {op}); };
  return {
      {"MP across locks", {all_of({X(W(x, 1)), Y(W(y, 1))}), all_of({Y(R(y, a)), X(R(x, b))})}, {{{a, 1}, {b, 0}}}},
      {"SB across locks", {all_of({X(W(x, 1)), Y(R(y, a))}), all_of({Y(W(y, 1)), X(R(x, b))})}, {{{a, 0}, {b, 0}}}},
      {"LB across locks", {all_of({Y(R(y, a)), X(W(x, 1))}), all_of({X(R(x, b)), Y(W(y, 1))})}, {{{a, 1}, {b, 1}}}},
      {"WRC across locks", {X(W(x, 1)), all_of({X(R(x, a)), Y(W(y, 1))}), all_of({Y(R(y, b)), X(R(x, c))})}, {{{a, 1}, {b, 1}, {c, 0}}}},
      {"ISA2 across locks",
       {all_of({X(W(x, 1)), Y(W(y, 1))}), all_of({Y(R(y, a)), X(W(z, 1))}), in_lock(k, {R(z, b), R(x, c)})},
       {{{a, 1}, {b, 1}, {c, 0}}}},
      {"IRIW across locks",
       {X(W(x, 1)), Y(W(y, 1)), all_of({X(R(x, a)), Y(R(y, b))}), all_of({Y(R(y, c)), X(R(x, d))})},
       {{{a, 1}, {b, 0}, {c, 1}, {d, 0}}}},
      {"2+2W across locks",
       {all_of({X(W(x, 1)), Y(W(y, 2)), {B(), R(x, a), R(y, b)}}), all_of({Y(W(y, 1)), X(W(x, 2)), {B(), R(x, c), R(y, d)}})},
       {{{a, 1}, {b, 1}}, {{a, 0}}, {{b, 0}}, {{c, 0}}, {{d, 0}}, {{a, 1}, {c, 2}}, {{a, 2}, {c, 1}}, {{b, 1}, {d, 2}}, {{b, 2}, {d, 1}}}},
      {"R across locks",
       {all_of({X(W(x, 1)), Y(W(y, 1)), {B(), R(y, c)}}), all_of({Y(W(y, 2)), X(R(x, a)), {B(), R(y, b)}})},
       {{{a, 0}, {b, 2}}, {{a, 0}, {c, 2}}}},
      {"S across locks",
       {all_of({X(W(x, 2)), Y(W(y, 1)), {B(), R(x, c)}}), all_of({Y(R(y, a)), X(W(x, 1)), {B(), R(x, d)}})},
       {{{a, 1}, {c, 2}}, {{a, 1}, {d, 2}}}},
      {"nested locks",
       {in_lock(k, all_of({{W(x, 1)}, Y(W(y, 1))})), in_lock(k, all_of({{R(x, a)}, Y(R(y, b))}))},
       {{{a, 1}, {b, 0}}, {{a, 0}, {b, 1}}}},
      {"MP, data written before the lock",
       {all_of({{W(x, 1)}, Y(W(y, 1))}), all_of({Y(R(y, a)), {R(x, b)}})},
       {{{a, 1}, {b, 0}}},
       true,
       kScoped},
      {"MP, data in another lock, read unlocked",
       {all_of({X(W(x, 1)), Y(W(y, 1))}), all_of({Y(R(y, a)), {R(x, b)}})},
       {{{a, 1}, {b, 0}}},
       true,
       kScoped},
      {"ISA2 through two locks, read unlocked",
       {X(W(x, 1)), all_of({X(R(x, a)), Y(W(y, 1))}), all_of({Y(R(y, b)), {R(x, c)}})},
       {{{a, 1}, {b, 1}, {c, 0}}},
       true,
       kScoped},
  };
}

std::vector<Litmus> barrier_tests() {
  return {
      {"MP + barrier", {{W(x, 1), W(y, 1), B()}, {B(), R(y, a), R(x, b)}}, {{{a, 0}}, {{b, 0}}}},
      {"SB + barrier", {{W(x, 1), B(), R(y, a)}, {W(y, 1), B(), R(x, b)}}, {{{a, 0}}, {{b, 0}}}},
      {"LB + barrier", {{R(y, a), B(), W(x, 1)}, {R(x, b), B(), W(y, 1)}}, {{{a, 1}}, {{b, 1}}}},
      {"WRC + barriers", {{W(x, 1), B(), B()}, {B(), R(x, a), W(y, 1), B()}, {B(), B(), R(y, b), R(x, c)}}, {{{a, 0}}, {{b, 0}}, {{c, 0}}}},
      {"ISA2 + barriers",
       {{W(x, 1), W(y, 1), B(), B()}, {B(), R(y, a), W(z, 1), B()}, {B(), B(), R(z, b), R(x, c)}},
       {{{a, 0}}, {{b, 0}}, {{c, 0}}}},
      {"2+2W + barriers",
       {{W(x, 1), B(), W(y, 2), B(), R(x, a), R(y, b)}, {W(y, 1), B(), W(x, 2), B(), R(x, c), R(y, d)}},
       {{{a, 0}}, {{a, 1}}, {{b, 0}}, {{b, 1}}, {{c, 0}}, {{c, 1}}, {{d, 0}}, {{d, 1}}}},
      {"CoWW + barrier", {{W(x, 1), W(x, 2), B(), R(x, a)}, {B(), R(x, b)}}, {{{a, 0}}, {{a, 1}}, {{b, 0}}, {{b, 1}}}},
      {"written by the home + barrier", {{W(x, 1), B()}, {R(x, b), B(), R(x, a)}}, {{{a, 0}}}, true, kNone, Spread::any, 0},
      {"read by the home + barrier", {{W(x, 1), B()}, {R(x, b), B(), R(x, a)}}, {{{a, 0}}}, true, kNone, Spread::any, 1},
      {"written, then the page given up at a lock, + barrier",
       {{W(x, 1), L(l), U(l), B(), R(y, b)}, {L(l), W(y, 1), U(l), B(), R(x, a)}},
       {{{a, 0}}, {{b, 0}}},
       false,
       kNone,
       Spread::together},
      {"written again after a barrier", {{W(x, 1), B(), W(x, 2), B()}, {B(), R(y, a), B(), R(x, b)}}, {{{b, 0}}, {{b, 1}}}},
      {"a neighbour written after a barrier", {{W(x, 1), B(), R(x, a)}, {B(), W(y, 1), R(x, b)}}, {{{a, 0}}, {{b, 0}}}},
  };
}

// Words of one page, bytes of one word, and words that are more than one access.
std::vector<Litmus> sharing_tests() {
  const std::vector<std::vector<Equals>> any_lost = {{{a, 0}}, {{b, 0}}, {{c, 0}}, {{d, 0}}};
  const std::vector<std::vector<Op>> both = {{W(x, 1), B(), R(x, a), R(y, b)}, {W(y, 1), B(), R(x, c), R(y, d)}};
  const std::vector<std::vector<Op>> four = {
      {W(x, 1), B(), R(y, a)}, {W(y, 1), B(), R(z, b)}, {W(z, 1), B(), R(w, c)}, {W(w, 1), B(), R(x, d)}};
  const std::vector<std::vector<Op>> two_locks = {all_of({in_lock(k, {W(x, 1)}), {B(), R(x, a), R(y, b)}}),
                                                  all_of({in_lock(l, {W(y, 1)}), {B(), R(x, c), R(y, d)}})};
  const std::vector<std::vector<Op>> handed_over = {in_lock(l, {W(x, 1)}), in_lock(l, {R(x, a)})};
  return {
      {"false sharing + barrier", both, any_lost, false, kNone, Spread::together},
      {"false sharing in one word + barrier", both, any_lost, false, kNone, Spread::adjacent},
      {"false sharing of four + barrier", four, any_lost, false, kNone, Spread::together},
      {"false sharing of four in one word + barrier", four, any_lost, false, kNone, Spread::adjacent},
      {"false sharing, two locks", two_locks, any_lost, false, kNone, Spread::together},
      {"false sharing in one word, two locks", two_locks, any_lost, false, kNone, Spread::adjacent},
      {"8 bytes in one lock", handed_over, {{{a, kTorn}}}, false, kNone, Spread::apart},
      {"8 bytes across two pages in one lock", handed_over, {{{a, kTorn}}}, false, kNone, Spread::across},
      {"8 bytes across two pages + barrier",
       both,
       {{{a, 0}}, {{b, 0}}, {{c, 0}}, {{d, 0}}, {{b, kTorn}}, {{c, kTorn}}},
       false,
       kNone,
       Spread::across},
      {"8 bytes across two pages, two locks",
       two_locks,
       {{{a, 0}}, {{b, 0}}, {{c, 0}}, {{d, 0}}, {{b, kTorn}}, {{c, kTorn}}},
       false,
       kNone,
       Spread::across},
      {"8 bytes racy, seen half", {{W(x, 1)}, {R(x, a)}}, {{{a, kTorn}}}, true, kRelaxed, Spread::apart},
      {"8 bytes across two pages racy, seen half", {{W(x, 1)}, {R(x, a)}}, {{{a, kTorn}}}, true, kAlways, Spread::across},
  };
}

}  // namespace

const std::vector<Litmus>& table() {
  static const std::vector<Litmus> all = [] {
    std::vector<Litmus> made;
    for (auto part : {racy_tests(), one_lock_tests(), two_lock_tests(), barrier_tests(), sharing_tests()}) {
      made.insert(made.end(), part.begin(), part.end());
    }
    return made;
  }();
  return all;
}

}  // namespace netvm::litmus
