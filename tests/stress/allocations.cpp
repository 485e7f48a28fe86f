// Allocation while engines race with the asking thread: no answer is lost.
#include <doctest/doctest.h>

#include "tests/support/seeds.hpp"
#include "tests/support/thread_cluster.hpp"

namespace netvm::test {
namespace {

TEST_CASE("every allocation is answered, and the memory is zero again") {
  for_each_protocol([](std::string_view protocol) {
    ClusterOptions options;
    options.nodes = 4;
    options.protocol = protocol;
    options.pages = 512;
    ThreadCluster cluster(options);
    for (int i = 0; i < 300; ++i) {
      const Place place = cluster.allocate(i % 3 == 0 ? kPageSize : 8, {});
      if (i % 20 == 0) {
        static_cast<void>(cluster.run([&](Worker& me) {
          if (me.rank() != 1) return;
          CHECK(me.load<std::uint64_t>(place) == 0);
          me.store<std::uint64_t>(place, 1);
        }));
      }
      cluster.free(place);
    }
  });
}

}  // namespace
}  // namespace netvm::test
