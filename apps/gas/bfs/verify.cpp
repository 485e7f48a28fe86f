#include "apps/gas/bfs/verify.hpp"

#include <fmt/format.h>

#include "apps/gas/bfs/search.hpp"

namespace gas::bfs {

namespace {

bool reached(std::uint64_t word) { return word != Reached::kFree; }

/// Checks 1 and 2. A parent lies one level higher, so a way up from level n ends after n steps: at a vertex of level 0, which only the root may be.
std::string validate_tree(std::uint64_t root, const std::vector<std::uint64_t>& words) {
  if (!reached(words[root]) || Reached::parent(words[root]) != root || Reached::level(words[root]) != 0)
    return fmt::format("the root {} is not its own parent in level 0", root);
  for (std::uint64_t vertex = 0; vertex < words.size(); ++vertex) {
    if (!reached(words[vertex]) || vertex == root) continue;
    const std::uint64_t parent = Reached::parent(words[vertex]);
    if (parent >= words.size() || !reached(words[parent]))
      return fmt::format("vertex {}: its parent {} is not in the tree", vertex, parent);
    if (Reached::level(words[vertex]) != Reached::level(words[parent]) + 1) {
      return fmt::format("vertex {} of level {} has the parent {} of level {}", vertex, Reached::level(words[vertex]), parent,
                         Reached::level(words[parent]));
    }
  }
  return {};
}

}  // namespace

std::string validate(const Parameters& parameters, std::uint64_t root, const std::vector<std::uint64_t>& words) {
  if (std::string wrong = validate_tree(root, words); !wrong.empty()) return wrong;
  std::vector<bool> joined(words.size());
  joined[root] = true;
  for (std::uint64_t i = 0; i < parameters.edges(); ++i) {
    const auto [from, to] = edge(parameters, i);
    if (reached(words[from]) != reached(words[to]))
      return fmt::format("of the edge {} - {} one end is in the tree, the other not", from, to);
    if (!reached(words[from])) continue;
    const std::uint64_t a = Reached::level(words[from]);
    const std::uint64_t b = Reached::level(words[to]);
    if (a > b + 1 || b > a + 1) return fmt::format("the edge {} - {} joins the levels {} and {}", from, to, a, b);
    if (Reached::parent(words[from]) == to) joined[from] = true;
    if (Reached::parent(words[to]) == from) joined[to] = true;
  }
  for (std::uint64_t vertex = 0; vertex < words.size(); ++vertex) {
    if (reached(words[vertex]) && !joined[vertex])
      return fmt::format("no edge joins the vertex {} and its parent {}", vertex, Reached::parent(words[vertex]));
  }
  return {};
}

SequentialGraph::SequentialGraph(const Parameters& parameters) : begins_(parameters.vertices() + 1) {
  const auto each_end = [&](auto f) {
    for (std::uint64_t i = 0; i < parameters.edges(); ++i) {
      const auto [from, to] = edge(parameters, i);
      if (from == to) continue;
      f(from, to);
      f(to, from);
    }
  };
  each_end([&](std::uint64_t vertex, std::uint64_t) { ++begins_[vertex + 1]; });
  for (std::uint64_t vertex = 0; vertex < parameters.vertices(); ++vertex) begins_[vertex + 1] += begins_[vertex];
  targets_.resize(begins_.back());
  std::vector<std::uint64_t> places(begins_.begin(), begins_.end() - 1);
  each_end([&](std::uint64_t vertex, std::uint64_t other) { targets_[places[vertex]++] = other; });
}

std::vector<std::uint64_t> SequentialGraph::search(std::uint64_t root) const {
  std::vector<std::uint64_t> words(begins_.size() - 1, Reached::kFree);
  std::vector<std::uint64_t> queue;
  queue.reserve(words.size());
  words[root] = Reached::pack(root, 0);
  queue.push_back(root);
  for (std::size_t i = 0; i < queue.size(); ++i) {
    const std::uint64_t vertex = queue[i];
    for (std::uint64_t at = begins_[vertex]; at < begins_[vertex + 1]; ++at) {
      std::uint64_t& word = words[targets_[at]];
      if (reached(word)) continue;
      word = Reached::pack(vertex, Reached::level(words[vertex]) + 1);
      queue.push_back(targets_[at]);
    }
  }
  return words;
}

std::string compare_levels(const std::vector<std::uint64_t>& words, const std::vector<std::uint64_t>& expected) {
  const auto level = [](std::uint64_t word) {
    return reached(word) ? fmt::format("level {}", Reached::level(word)) : std::string("not reached");
  };
  for (std::uint64_t vertex = 0; vertex < words.size(); ++vertex) {
    if (reached(words[vertex]) != reached(expected[vertex]) || Reached::level(words[vertex]) != Reached::level(expected[vertex]))
      return fmt::format("vertex {}: {}, in the sequential search: {}", vertex, level(words[vertex]), level(expected[vertex]));
  }
  return {};
}

}  // namespace gas::bfs
