// Misuse of synchronisation objects through the public interface: what the errors say.
#include <array>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>

#include "netvm/sync.hpp"
#include "runtime/sanitizers.hpp"
#include "tests/api/scenario.hpp"

namespace netvm::test {

namespace {

/// What an error says: the operation, where, the values, and what to do.
void words_of_misuse(Job& job) {
  struct Shared {
    counting_semaphore<3> permits;
    binary_semaphore anything;
    wait_queue queue;
    barrier<> four;
    barrier<> zeroed;
    latch gate;
    char packed[64];
  };
  auto* shared = job.allocate_all<Shared>();
  if (job.node() == 0) {
    const auto says = [](auto&& call, const void* object, std::string_view words) {
      std::string said;
      try {
        call();
      } catch (const std::system_error& error) {
        said = error.what();
      }
      std::array<char, 32> address{};
      std::snprintf(address.data(), address.size(), " at %p: ", object);
      const bool good = said.find(address.data()) != std::string::npos && said.find(words) != std::string::npos;
      if (!good) std::fprintf(stderr, "said: %s\n", said.c_str());
      return good;
    };
    Shared& s = *shared;
    std::construct_at(&s.permits, 2);
    std::construct_at(&s.four, 4);
    std::construct_at(&s.gate, 2);
    EXPECT(says([&] { s.permits.init(-1); }, &s.permits, "initialisation of the semaphore"));
    EXPECT(says([&] { s.permits.init(-1); }, &s.permits, "a count of -1; give 0 to 3"));
    EXPECT(says([&] { s.permits.init(4); }, &s.permits, "a count of 4; give 0 to 3"));
    EXPECT(says([&] { s.gate.init(-7); }, &s.gate, "a count of -7; give 0 or more"));
    EXPECT(says([&] { s.permits.release(2); }, &s.permits, "2 more than the 2 that it has would be more permits than its max(), 3"));
    EXPECT(says([&] { s.permits.release(-3); }, &s.permits, "-3 permits; give 0 or more"));
    EXPECT(says([&] { s.queue.wait({}); }, &s.queue, "a ticket that is no place in a queue; give what enqueue() has returned"));
    const wait_queue::ticket place = s.queue.enqueue();
    s.queue.leave(place);
    EXPECT(says([&] { s.queue.wait(place); }, &s.queue, "this ticket's place has been used up"));
    EXPECT(says([&] { s.zeroed.arrive_and_wait(); }, &s.zeroed, "it was given no count"));
    EXPECT(says([&] { static_cast<void>(s.zeroed.arrive(0)); }, &s.zeroed, "0 arrivals; give 1 or more"));
    EXPECT(says([&] { s.four.arrive_and_wait(3); }, &s.four, "3 threads are expected, but it is a barrier of 4"));
    static_cast<void>(s.four.arrive(2));
    EXPECT(says([&] { static_cast<void>(s.four.arrive(3)); }, &s.four, "3 arrivals, where 2 of its 4 are missing"));
    EXPECT(says([&] { s.gate.count_down(3); }, &s.gate, "by 3, where its count is 2"));
    EXPECT(says([&] { s.gate.count_down(-1); }, &s.gate, "by -1; give 0 or more"));
    auto* odd = reinterpret_cast<mutex*>(s.packed + 1);
    const auto is_refused = [](auto&& call) {
      try {
        call();
      } catch (const std::system_error& error) {
        return error.code() == std::errc::invalid_argument && std::string(error.what()).find("multiple of 8 bytes") != std::string::npos;
      }
      return false;
    };
    if (!NETVM_ASAN) EXPECT(is_refused([&] { odd->lock(); }));  // which says so itself
    EXPECT(is_refused([&] { detail::flag_set(s.packed + 4, true); }));
  }
  job.barrier();
}

}  // namespace

std::vector<Scenario> misuse_scenarios() { return {{"words_of_misuse", words_of_misuse}}; }

}  // namespace netvm::test
