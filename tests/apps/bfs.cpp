// bfs: the generator, the graph's construction, the search, and that each of the validation's checks can fail.
#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <vector>

#include "apps/gas/bfs/search.hpp"
#include "apps/gas/bfs/verify.hpp"

namespace gas::bfs {
namespace {

TEST_CASE("vertices are renumbered one to one, and degrees are those of R-MAT") {
  for (const int scale : {4, 9, 12}) {
    std::set<std::uint64_t> numbers;
    for (std::uint64_t vertex = 0; vertex < std::uint64_t{1} << scale; ++vertex) numbers.insert(scramble(scale, vertex));
    CHECK(numbers.size() == std::size_t{1} << scale);
    CHECK(*numbers.rbegin() == numbers.size() - 1);
  }
  const Parameters parameters{10, 16, 1};
  std::vector<int> degrees(parameters.vertices());
  for (std::uint64_t i = 0; i < parameters.edges(); ++i) ++degrees[edge(parameters, i).from];
  // The least scrambled vertex is reached with probability (0.57 + 0.19)^10 at each edge: the hub.
  CHECK(*std::max_element(degrees.begin(), degrees.end()) == doctest::Approx(0.0643 * 16384).epsilon(0.15));
  CHECK(std::count(degrees.begin(), degrees.end(), 0) > 100);
}

TEST_CASE("any number of threads builds the graph and finds the levels of the sequential search") {
  const Parameters parameters{9, 8, 3};
  const SequentialGraph sequential(parameters);
  for (const int threads : {1, 4}) {
    netvm::Job job(threads);
    const Graph graph(job, parameters);
    Search search(job, graph);
    const std::vector<std::uint64_t> roots = graph.choose_roots();
    REQUIRE(roots.size() == 3);
    for (const std::uint64_t root : roots) {
      Search::Result result;
      job.parallel([&](netvm::Thread& me) {
        const Search::Result mine = search.run(job, me, root);
        if (me.local() == 0) result = mine;
      });
      const std::vector<std::uint64_t> words = search.collect();
      CHECK(validate(parameters, root, words).empty());
      CHECK(compare_levels(words, sequential.search(root)).empty());
      CHECK(static_cast<std::ptrdiff_t>(result.vertices) ==
            std::count_if(words.begin(), words.end(), [](std::uint64_t word) { return word != Reached::kFree; }));
      CHECK(result.edges > result.vertices);
    }
  }
}

TEST_CASE("each of the five checks sees what it is for") {
  const Parameters parameters{8, 4, 1};
  const SequentialGraph graph(parameters);
  const std::uint64_t root = edge(parameters, 0).from;
  const std::vector<std::uint64_t> right = graph.search(root);
  REQUIRE(validate(parameters, root, right).empty());
  const auto deepest = static_cast<std::size_t>(std::max_element(right.begin(), right.end(),
                                                                 [](std::uint64_t a, std::uint64_t b) {
                                                                   const auto depth = [](std::uint64_t w) {
                                                                     return w == Reached::kFree ? 0 : Reached::level(w);
                                                                   };
                                                                   return depth(a) < depth(b);
                                                                 }) -
                                                right.begin());
  const std::uint64_t level = Reached::level(right[deepest]);
  REQUIRE(level >= 2);
  const auto wrong = [&](std::uint64_t vertex, std::uint64_t word) {
    std::vector<std::uint64_t> words = right;
    words[vertex] = word;
    CHECK(compare_levels(words, right).empty() == (Reached::level(word) == Reached::level(right[vertex])));
    return validate(parameters, root, words);
  };
  CHECK(wrong(root, Reached::kFree).find("the root") != std::string::npos);
  CHECK(wrong(deepest, Reached::pack(deepest, level)).find("has the parent") != std::string::npos);  // a cycle
  CHECK(wrong(deepest, Reached::pack(Reached::parent(right[deepest]), level + 1)).find("has the parent") != std::string::npos);
  CHECK(wrong(deepest, Reached::kFree).find("one end is in the tree") != std::string::npos);
  CHECK(wrong(deepest, Reached::pack(parameters.vertices(), level)).find("is not in the tree") != std::string::npos);
  // A parent in the right level, but no neighbour.
  for (std::uint64_t other = 0; other < right.size(); ++other) {
    if (right[other] == Reached::kFree || Reached::level(right[other]) + 1 != level) continue;
    bool joined = false;
    for (std::uint64_t i = 0; i < parameters.edges() && !joined; ++i) {
      const Edge e = edge(parameters, i);
      joined = (e.from == deepest && e.to == other) || (e.to == deepest && e.from == other);
    }
    if (joined) continue;
    CHECK(wrong(deepest, Reached::pack(other, level)).find("no edge joins") != std::string::npos);
    break;
  }
}

TEST_CASE("a tree that is right but not the shallowest is seen") {
  const Parameters parameters{8, 4, 1};
  std::vector<std::vector<std::uint64_t>> neighbours(parameters.vertices());
  for (std::uint64_t i = 0; i < parameters.edges(); ++i) {
    const auto [from, to] = edge(parameters, i);
    neighbours[from].push_back(to);
    neighbours[to].push_back(from);
  }
  const std::uint64_t root = edge(parameters, 0).from;
  std::vector<std::uint64_t> words(parameters.vertices(), Reached::kFree);
  const auto go_deep = [&](auto& self, std::uint64_t vertex, std::uint64_t word) -> void {
    if (words[vertex] != Reached::kFree) return;
    words[vertex] = word;
    for (const std::uint64_t next : neighbours[vertex]) self(self, next, Reached::pack(vertex, Reached::level(word) + 1));
  };
  go_deep(go_deep, root, Reached::pack(root, 0));
  CHECK(validate(parameters, root, words).find("joins the levels") != std::string::npos);
}

}  // namespace
}  // namespace gas::bfs
