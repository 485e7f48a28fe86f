#include "apps/gas/bfs/search.hpp"

#include <algorithm>

#include "apps/splash2/common/partition.hpp"

namespace gas::bfs {

namespace {

constexpr std::uint64_t kPiece = 32;  // vertices of a queue that a thread takes at once
constexpr std::size_t kAsked = 256;   // vertices that are asked for at once

}  // namespace

/// One thread's work in a search.
class Search::Level {
 public:
  Level(netvm::Job& job, const Search& search, const netvm::Thread& me)
      : search_(search),
        me_(me),
        transfers_(job, kAsked),
        known_(search.graph_.parameters().vertices()),
        found_(static_cast<std::size_t>(me.nodes())),
        places_(found_.size()) {
    questions_.reserve(kAsked);
  }

  /// Whether this is the first time that the thread hears of the vertex.
  bool is_new(std::uint64_t vertex) {
    if (known_[vertex]) return false;
    known_[vertex] = true;
    return true;
  }

  /// Reads this node's queue of the level, together with the node's other threads.
  void expand(std::uint64_t level) {
    const std::size_t turn = level % kQueues;
    const std::uint64_t* queue = search_.queue(level);
    const std::uint64_t end = search_.ends_[turn];
    for (;;) {
      const std::uint64_t first = netvm::fetch_add(me_.node(), &search_.taken_[turn], kPiece);
      if (first >= end) break;
      for (std::uint64_t i = first; i < std::min(first + kPiece, end); ++i) visit(queue[i], level);
    }
    claim(level);
  }

  std::uint64_t claimed = 0;  ///< in this level
  std::uint64_t ends = 0;     ///< of edges, at the vertices that this thread visited
  std::uint64_t asked = 0;

 private:
  void visit(std::uint64_t vertex, std::uint64_t level) {
    const Owners& owners = search_.graph_.owners();
    const auto neighbours = search_.graph_.neighbours(vertex);
    ends += neighbours.size();
    for (const std::uint64_t next : neighbours) {
      if (!is_new(next)) continue;
      questions_.push_back({next, 0});
      const std::uint64_t mine = Reached::pack(vertex, level + 1);
      transfers_.compare_swap_async(owners.node(next), &search_.words_[owners.local(next)], Reached::kFree, mine, &questions_.back().was);
      if (questions_.size() == kAsked) claim(level);
    }
  }

  /// Waits for the answers, and puts the vertices that were free into their owners' queues.
  void claim(std::uint64_t level) {
    const Owners& owners = search_.graph_.owners();
    transfers_.quiet();
    asked += questions_.size();
    for (const Question& question : questions_) {
      if (question.was != Reached::kFree) continue;
      ++claimed;
      found_[static_cast<std::size_t>(owners.node(question.vertex))].push_back(question.vertex);
    }
    questions_.clear();
    const auto of_each = [&](auto&& f) {
      for (std::size_t node = 0; node < found_.size(); ++node) {
        if (!found_[node].empty()) f(static_cast<int>(node), found_[node], places_[node]);
      }
      transfers_.quiet();
    };
    of_each([&](int node, const std::vector<std::uint64_t>& found, std::uint64_t& place) {
      transfers_.fetch_add_async(node, &search_.ends_[(level + 1) % kQueues], found.size(), &place);
    });
    of_each([&](int node, const std::vector<std::uint64_t>& found, std::uint64_t place) {
      transfers_.put_async(node, search_.queue(level + 1) + place, found.data(), found.size());
    });
    for (std::vector<std::uint64_t>& found : found_) found.clear();
  }

  struct Question {
    std::uint64_t vertex;
    std::uint64_t was;  ///< the vertex's word
  };

  const Search& search_;
  const netvm::Thread& me_;
  std::vector<Question> questions_;  // never grows beyond its room: answers come to it
  netvm::Transfers transfers_;
  std::vector<bool> known_;
  std::vector<std::vector<std::uint64_t>> found_;  // by owner
  std::vector<std::uint64_t> places_;              // in the owners' queues
};

Search::Search(netvm::Job& job, const Graph& graph)
    : graph_(graph),
      capacity_(graph.owners().count(0, graph.parameters().vertices())),
      words_(job.symmetric_all<std::uint64_t>(capacity_)),
      queues_(job.symmetric_all<std::uint64_t>(kQueues * capacity_)),
      ends_(job.symmetric_all<std::uint64_t>(kQueues)),
      taken_(job.symmetric_all<std::uint64_t>(kQueues)) {}

void Search::clear(const netvm::Thread& me) const {
  const auto part = splash2::Part::of(capacity_, me.local(), me.threads());
  std::fill(words_ + part.first, words_ + part.last, Reached::kFree);
  if (me.local() != 0) return;
  std::fill_n(ends_, kQueues, 0);
  std::fill_n(taken_, kQueues, 0);
}

Search::Result Search::run(netvm::Job& job, netvm::Thread& me, std::uint64_t root) {
  Result result;
  Level level(job, *this, me);
  clear(me);
  me.barrier();
  const double start = splash2::clock_seconds();
  const Owners& owners = graph_.owners();
  level.is_new(root);
  if (me.node() == owners.node(root) && me.local() == 0) {
    words_[owners.local(root)] = Reached::pack(root, 0);
    queue(0)[0] = root;
    ends_[0] = 1;
  }
  me.barrier();
  result.vertices = 1;
  for (std::uint64_t number = 0;; ++number) {
    const double before = splash2::clock_seconds();
    if (me.local() == 0) ends_[(number + 2) % kQueues] = taken_[(number + 2) % kQueues] = 0;
    level.claimed = 0;
    level.expand(number);
    result.time.part += splash2::clock_seconds() - before;
    const std::uint64_t claimed = me.sum(level.claimed);
    result.vertices += claimed;
    result.levels = number + 1;
    if (claimed == 0) break;
  }
  result.time.total = splash2::clock_seconds() - start;
  result.edges = me.sum(level.ends) / 2;
  result.asked = me.sum(level.asked);
  return result;
}

std::vector<std::uint64_t> Search::collect() const {
  const Owners& owners = graph_.owners();
  const std::uint64_t vertices = graph_.parameters().vertices();
  std::vector<std::uint64_t> all(vertices);
  std::vector<std::uint64_t> theirs(capacity_);
  for (int node = 0; node < static_cast<int>(owners.nodes); ++node) {
    const std::uint64_t count = owners.count(node, vertices);
    netvm::get(node, words_, theirs.data(), count);
    for (std::uint64_t local = 0; local < count; ++local) all[local * owners.nodes + static_cast<std::uint64_t>(node)] = theirs[local];
  }
  return all;
}

}  // namespace gas::bfs
