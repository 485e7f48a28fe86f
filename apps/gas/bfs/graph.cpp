#include "apps/gas/bfs/graph.hpp"

#include <algorithm>
#include <array>

#include "apps/splash2/common/job.hpp"
#include "apps/splash2/common/partition.hpp"
#include "apps/splash2/common/random.hpp"

namespace gas::bfs {

namespace {

constexpr std::size_t kBatch = 128;  // edges that are placed together
constexpr std::uint64_t kRootStream = 42;

}  // namespace

Graph::Graph(netvm::Job& job, const Parameters& parameters)
    : parameters_(parameters),
      owners_{static_cast<std::uint64_t>(job.nodes())},
      begins_(job.symmetric_all<std::uint64_t>(owners_.count(0, parameters.vertices()) + 1)),
      places_(job.symmetric_all<std::uint64_t>(owners_.count(0, parameters.vertices()) + 1)) {
  const double start = splash2::clock_seconds();
  const std::uint64_t own = owners_.count(job.node(), parameters.vertices());
  job.parallel([&](netvm::Thread& me) { count_degrees(job, me); });
  // places_ has the degrees.
  for (std::uint64_t local = 0; local < own; ++local) {
    begins_[local + 1] = begins_[local] + places_[local];
    places_[local] = begins_[local];
  }
  std::uint64_t most = 0;
  job.parallel([&](netvm::Thread& me) {
    const std::uint64_t all = me.max(begins_[own]);
    if (me.local() == 0) most = all;
  });
  targets_ = job.symmetric_all<std::uint64_t>(std::max<std::uint64_t>(1, most));
  job.parallel([&](netvm::Thread& me) { place_edges(job, me); });
  seconds_ = splash2::clock_seconds() - start;
}

void Graph::count_degrees(netvm::Job& job, netvm::Thread& me) {
  netvm::Transfers transfers(job);
  const auto part = splash2::Part::of(parameters_.edges(), me.rank(), me.count());
  for (std::uint64_t i = part.first; i < part.last; ++i) {
    const auto [from, to] = edge(parameters_, i);
    if (from == to) continue;
    for (const std::uint64_t end : {from, to}) transfers.fetch_add_async(owners_.node(end), &places_[owners_.local(end)], 1);
  }
  transfers.quiet();
}

void Graph::place_edges(netvm::Job& job, netvm::Thread& me) {
  struct End {
    std::uint64_t vertex;
    std::uint64_t other;
    std::uint64_t place;
  };
  netvm::Transfers transfers(job);
  std::array<End, 2 * kBatch> ends;
  const auto part = splash2::Part::of(parameters_.edges(), me.rank(), me.count());
  for (std::uint64_t first = part.first; first < part.last; first += kBatch) {
    std::size_t count = 0;
    for (std::uint64_t i = first; i < std::min<std::uint64_t>(first + kBatch, part.last); ++i) {
      const auto [from, to] = edge(parameters_, i);
      if (from == to) continue;
      ends[count++] = {from, to, 0};
      ends[count++] = {to, from, 0};
    }
    const auto batch = std::span(ends).first(count);
    for (End& end : batch) transfers.fetch_add_async(owners_.node(end.vertex), &places_[owners_.local(end.vertex)], 1, &end.place);
    transfers.quiet();
    for (const End& end : batch) transfers.put_async(owners_.node(end.vertex), targets_ + end.place, &end.other);
    transfers.quiet();
  }
}

std::uint64_t Graph::degree(std::uint64_t vertex) const {
  std::array<std::uint64_t, 2> ends;
  netvm::get(owners_.node(vertex), begins_ + owners_.local(vertex), ends.data(), ends.size());
  return ends[1] - ends[0];
}

std::vector<std::uint64_t> Graph::choose_roots() const {
  std::vector<std::uint64_t> roots;
  const auto wanted = static_cast<std::size_t>(parameters_.roots);
  // Chance misses few of what there is in so many tries.
  for (std::uint64_t i = 0; i < 16 * parameters_.vertices() && roots.size() < wanted; ++i) {
    const std::uint64_t vertex = splash2::uniform_below(splash2::mix64(kRootStream, i), parameters_.vertices());
    if (std::find(roots.begin(), roots.end(), vertex) == roots.end() && degree(vertex) > 0) roots.push_back(vertex);
  }
  return roots;
}

}  // namespace gas::bfs
