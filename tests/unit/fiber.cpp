// Fiber: alternation, exceptions, deep stacks, reuse of stacks; under the sanitizers also that they follow each switch.
#include "runtime/fiber.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using netvm::Fiber;

namespace {

// Touches about 1 KiB of stack a level, so that a sanitizer with the wrong stack in mind would speak up.
int descend(int depth, Fiber* suspend_at_bottom) {
  std::array<char, 1024> frame{};
  std::memset(frame.data(), depth & 0x7f, frame.size());
  if (depth == 0) {
    if (suspend_at_bottom != nullptr) suspend_at_bottom->suspend();
    return frame[1];
  }
  return descend(depth - 1, suspend_at_bottom) + (frame[512] == (depth & 0x7f) ? 1 : 1'000'000);
}

}  // namespace

TEST_CASE("resumer and fiber alternate") {
  std::string order;
  std::unique_ptr<Fiber> fiber;
  fiber = std::make_unique<Fiber>([&] {
    order += "a";
    fiber->suspend();
    order += "b";
    fiber->suspend();
    order += "c";
  });
  CHECK(order.empty());
  fiber->resume();
  order += "1";
  fiber->resume();
  order += "2";
  CHECK_FALSE(fiber->done());
  fiber->resume();
  CHECK(fiber->done());
  CHECK(order == "a1b2c");
}

TEST_CASE("an exception of the body is handed to the resumer, once") {
  Fiber fiber([] { throw std::runtime_error("from inside"); });
  fiber.resume();
  CHECK(fiber.done());
  const std::exception_ptr thrown = fiber.take_exception();
  REQUIRE(thrown);
  CHECK_THROWS_WITH(std::rethrow_exception(thrown), "from inside");
  CHECK_FALSE(fiber.take_exception());
}

TEST_CASE("fibers that suspend inside catch blocks keep their own exceptions") {
  std::array<std::unique_ptr<Fiber>, 2> fibers;
  std::array<std::string, 2> seen;
  for (int i = 0; i < 2; ++i) {
    fibers[i] = std::make_unique<Fiber>([&, i] {
      try {
        throw std::runtime_error("of fiber " + std::to_string(i));
      } catch (...) {
        fibers[i]->suspend();
        try {
          throw;  // the innermost caught exception: the other fiber's, if both shared one list
        } catch (const std::exception& e) {
          seen[i] = e.what();
        }
      }
    });
  }
  fibers[0]->resume();
  fibers[1]->resume();
  fibers[0]->resume();
  fibers[1]->resume();
  CHECK(seen[0] == "of fiber 0");
  CHECK(seen[1] == "of fiber 1");
  CHECK(std::uncaught_exceptions() == 0);
}

TEST_CASE("a fiber's stack is deep, and survives suspension at the bottom") {
  int result = 0;
  std::unique_ptr<Fiber> fiber;
  fiber = std::make_unique<Fiber>([&] { result = descend(300, fiber.get()); });
  fiber->resume();
  CHECK(descend(300, nullptr) == 300);  // the same code on the thread's stack, in between
  fiber->resume();
  CHECK(fiber->done());
  CHECK(result == 300);
}

TEST_CASE("fibers can be nested") {
  std::string order;
  Fiber outer([&] {
    std::unique_ptr<Fiber> inner;
    inner = std::make_unique<Fiber>([&] {
      order += "i";
      inner->suspend();
      order += "j";
    });
    inner->resume();
    order += "o";
    inner->resume();
  });
  outer.resume();
  CHECK(order == "ioj");
}

TEST_CASE("many fibers, most of them abandoned halfway, use few stacks") {
  int started = 0;
  for (int round = 0; round < 2000; ++round) {
    std::unique_ptr<Fiber> fiber;
    fiber = std::make_unique<Fiber>([&] {
      ++started;
      descend(4, nullptr);
      if (round % 10 != 0) fiber->suspend();
    });
    fiber->resume();
    CHECK(fiber->done() == (round % 10 == 0));
  }
  CHECK(started == 2000);
}

TEST_CASE("threads run fibers of their own at the same time") {
  std::vector<std::thread> threads;
  std::array<int, 4> sums{};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&sums, t] {
      for (int round = 0; round < 200; ++round) {
        std::unique_ptr<Fiber> fiber;
        fiber = std::make_unique<Fiber>([&] {
          ++sums[t];
          fiber->suspend();
          ++sums[t];
        });
        while (!fiber->done()) fiber->resume();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const int sum : sums) CHECK(sum == 400);
}
