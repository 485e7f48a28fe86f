#include "tests/litmus/litmus.hpp"

namespace netvm::litmus {

namespace {

enum : std::uint8_t { x, y };
enum : std::uint8_t { a, b, c, d };
enum : std::uint8_t { k, l };

constexpr Op W(std::uint8_t variable, std::uint8_t value) { return {Act::store, variable, value}; }
constexpr Op R(std::uint8_t variable, std::uint8_t reg) { return {Act::load, variable, reg}; }
constexpr Op L(std::uint8_t lock) { return {Act::lock, lock, 0}; }
constexpr Op U(std::uint8_t lock) { return {Act::unlock, lock, 0}; }
constexpr Op B() { return {Act::barrier, 0, 0}; }

constexpr std::optional<dsm::Consistency> kNone;
constexpr auto kRelaxed = dsm::Consistency::release;  // what a racy program betrays
constexpr auto kScoped = dsm::Consistency::scope;     // what was not written, or not read, under the lock

std::vector<Litmus> racy_tests() {
  return {
      {"MP racy", {{W(x, 1), W(y, 1)}, {R(y, a), R(x, b)}}, {{{a, 1}, {b, 0}}}, true, kRelaxed},
      {"SB racy", {{W(x, 1), R(y, a)}, {W(y, 1), R(x, b)}}, {{{a, 0}, {b, 0}}}, true, kRelaxed},
      {"LB racy", {{R(y, a), W(x, 1)}, {R(x, b), W(y, 1)}}, {{{a, 1}, {b, 1}}}, true, kNone},
      {"CoRR racy", {{W(x, 1)}, {R(x, a), R(x, b)}}, {{{a, 1}, {b, 0}}}, true, kNone},
      {"CoWR racy", {{W(x, 1), R(x, a)}, {W(x, 2), R(x, b)}}, {{{a, 0}}, {{b, 0}}}, true, kNone},
      {"IRIW racy", {{W(x, 1)}, {W(y, 1)}, {R(x, a), R(y, b)}, {R(y, c), R(x, d)}}, {{{a, 1}, {b, 0}, {c, 1}, {d, 0}}}, true, kRelaxed},
      {"WRC racy", {{W(x, 1)}, {R(x, a), W(y, 1)}, {R(y, b), R(x, c)}}, {{{a, 1}, {b, 1}, {c, 0}}}, true, kRelaxed},
      {"2+2W racy + barrier, nodes disagree",
       {{W(x, 1), W(y, 2), B(), R(x, a), R(y, b)}, {W(y, 1), W(x, 2), B(), R(x, c), R(y, d)}},
       {{{a, 1}, {c, 2}}, {{a, 2}, {c, 1}}, {{b, 1}, {d, 2}}, {{b, 2}, {d, 1}}, {{a, 0}}, {{b, 0}}, {{c, 0}}, {{d, 0}}},
       true,
       kNone},
      {"2+2W racy + barrier, both first",
       {{W(x, 1), W(y, 2), B(), R(x, a), R(y, b)}, {W(y, 1), W(x, 2), B(), R(x, c), R(y, d)}},
       {{{a, 1}, {b, 1}}},
       true,
       kRelaxed},
  };
}

std::vector<Litmus> lock_tests() {
  return {
      {"MP in one lock", {{L(l), W(x, 1), W(y, 1), U(l)}, {L(l), R(y, a), R(x, b), U(l)}}, {{{a, 1}, {b, 0}}, {{a, 0}, {b, 1}}}},
      {"MP, data written before the lock",
       {{W(x, 1), L(l), W(y, 1), U(l)}, {L(l), R(y, a), U(l), R(x, b)}},
       {{{a, 1}, {b, 0}}},
       true,
       kScoped},
      {"MP, data in another lock, read unlocked",
       {{L(k), W(x, 1), U(k), L(l), W(y, 1), U(l)}, {L(l), R(y, a), U(l), R(x, b)}},
       {{{a, 1}, {b, 0}}},
       true,
       kScoped},
      {"SB in one lock", {{L(l), W(x, 1), U(l), L(l), R(y, a), U(l)}, {L(l), W(y, 1), U(l), L(l), R(x, b), U(l)}}, {{{a, 0}, {b, 0}}}},
      {"ISA2 through two locks",
       {{L(k), W(x, 1), U(k)}, {L(k), R(x, a), U(k), L(l), W(y, 1), U(l)}, {L(l), R(y, b), U(l), R(x, c)}},
       {{{a, 1}, {b, 1}, {c, 0}}},
       true,
       kScoped},
      {"lost update in a lock", {{L(l), R(x, a), W(x, 1), U(l)}, {L(l), R(x, b), W(x, 2), U(l)}}, {{{a, 0}, {b, 0}}, {{a, 2}, {b, 1}}}},
      {"IRIW in locks",
       {{L(k), W(x, 1), U(k)},
        {L(l), W(y, 1), U(l)},
        {L(k), R(x, a), U(k), L(l), R(y, b), U(l)},
        {L(l), R(y, c), U(l), L(k), R(x, d), U(k)}},
       {{{a, 1}, {b, 0}, {c, 1}, {d, 0}}}},
  };
}

std::vector<Litmus> barrier_tests() {
  return {
      {"MP + barrier", {{W(x, 1), W(y, 1), B()}, {B(), R(y, a), R(x, b)}}, {{{a, 0}}, {{b, 0}}}},
      {"SB + barrier", {{W(x, 1), B(), R(y, a)}, {W(y, 1), B(), R(x, b)}}, {{{a, 0}}, {{b, 0}}}},
      {"false sharing + barrier",
       {{W(x, 1), B(), R(x, a), R(y, b)}, {W(y, 1), B(), R(x, c), R(y, d)}},
       {{{a, 0}}, {{b, 0}}, {{c, 0}}, {{d, 0}}},
       false,
       kNone,
       Spread::together},
      {"false sharing in one word + barrier",
       {{W(x, 1), B(), R(x, a), R(y, b)}, {W(y, 1), B(), R(x, c), R(y, d)}},
       {{{a, 0}}, {{b, 0}}, {{c, 0}}, {{d, 0}}},
       false,
       kNone,
       Spread::adjacent},
      {"false sharing in one word, two locks",
       {{L(k), W(x, 1), U(k), B(), R(x, a), R(y, b)}, {L(l), W(y, 1), U(l), B(), R(x, c), R(y, d)}},
       {{{a, 0}}, {{b, 0}}, {{c, 0}}, {{d, 0}}},
       false,
       kNone,
       Spread::adjacent},
      {"written by the home + barrier", {{W(x, 1), B()}, {R(x, b), B(), R(x, a)}}, {{{a, 0}}}, true, kNone, Spread::any, 0},
      {"read by the home + barrier", {{W(x, 1), B()}, {R(x, b), B(), R(x, a)}}, {{{a, 0}}}, true, kNone, Spread::any, 1},
      {"written again after a barrier", {{W(x, 1), B(), W(x, 2), B()}, {B(), R(y, a), B(), R(x, b)}}, {{{b, 0}}, {{b, 1}}}},
      {"a neighbour written after a barrier", {{W(x, 1), B(), R(x, a)}, {B(), W(y, 1), R(x, b)}}, {{{a, 0}}, {{b, 0}}}},
  };
}

}  // namespace

const std::vector<Litmus>& table() {
  static const std::vector<Litmus> all = [] {
    std::vector<Litmus> made;
    for (auto part : {racy_tests(), lock_tests(), barrier_tests()}) made.insert(made.end(), part.begin(), part.end());
    return made;
  }();
  return all;
}

}  // namespace netvm::litmus
