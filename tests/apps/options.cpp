// The command line of the kernels: SPLASH-2's glued flags, and values that cannot be right.
#include <doctest/doctest.h>

#include <cstdint>
#include <string>

#include "apps/splash2/common/options.hpp"
#include "apps/splash2/common/partition.hpp"

namespace splash2 {
namespace {

struct Parsed {
  std::int64_t number = 7;
  double real = 1;
  std::string choice = "a";
  bool on = false;
};

Parsed parse(std::vector<const char*> words) {
  Parsed parsed;
  Options options("program", "purpose");
  options.whole("-n", parsed.number, {1, 64, true}, "N", "a number");
  options.real("-e", parsed.real, 0, 10, "E", "a real");
  options.choice("--pick", parsed.choice, {"a", "b"}, "a choice");
  options.on("-s", parsed.on, "a switch");
  words.insert(words.begin(), "program");
  options.parse(static_cast<int>(words.size()), words.data());
  return parsed;
}

std::string refusal(std::vector<const char*> words) {
  try {
    parse(std::move(words));
  } catch (const UsageError& error) {
    CHECK(error.exit_status() == 2);
    return error.what();
  }
  return "accepted";
}

TEST_CASE("values may be glued to their flag or not") {
  CHECK(parse({"-n32"}).number == 32);
  CHECK(parse({"-n", "32"}).number == 32);
  CHECK(parse({"-e1e-7", "-s"}).real == 1e-7);
  CHECK(parse({"-s", "-e", "2.5"}).on);
  CHECK(parse({"--pick=b"}).choice == "b");
  CHECK(parse({}).number == 7);
}

TEST_CASE("what cannot be right is refused with the flag, the value and what is right") {
  CHECK(refusal({"-n33"}).find("-n: '33' is not a power of two from 1 to 64") != std::string::npos);
  for (const char* word : {"-n0", "-n128", "-nx", "-n4x", "-n-4", "-n", "-e0", "-e11", "-enan", "-e", "--pick=c", "-q", "word"}) {
    CHECK_MESSAGE(refusal({word}) != "accepted", word);
  }
}

TEST_CASE("help is not an error and shows defaults") {
  try {
    parse({"--help"});
    FAIL("help must end the program");
  } catch (const UsageError& error) {
    CHECK(error.exit_status() == 0);
    CHECK(std::string(error.what()).find("[7]") != std::string::npos);
  }
}

TEST_CASE("parts cover everything once and differ by one at most") {
  for (const int parts : {1, 2, 3, 7}) {
    std::size_t next = 0;
    for (int part = 0; part < parts; ++part) {
      const Part p = Part::of(23, part, parts);
      CHECK(p.first == next);
      CHECK(p.size() * static_cast<std::size_t>(parts) + static_cast<std::size_t>(parts) > 23);
      next = p.last;
    }
    CHECK(next == 23);
  }
}

}  // namespace
}  // namespace splash2
