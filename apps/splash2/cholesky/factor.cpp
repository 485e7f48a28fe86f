#include "apps/splash2/cholesky/factor.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace splash2::cholesky {

namespace {

/// The dense factorization of a panel: `rows` rows of `columns` values, the first rows being its diagonal block.
void complete_dense(double* values, std::size_t rows, std::size_t columns) {
  std::vector<double> pivot_column(columns);
  for (std::size_t k = 0; k < columns; ++k) {
    const double square = values[k * columns + k];
    if (!(square > 0)) throw std::runtime_error("a pivot is not positive: the matrix is not positive definite");
    const double pivot = std::sqrt(square);
    values[k * columns + k] = pivot;
    for (std::size_t i = k + 1; i < rows; ++i) values[i * columns + k] /= pivot;
    for (std::size_t j = k + 1; j < columns; ++j) pivot_column[j] = values[j * columns + k];
    for (std::size_t i = k + 1; i < rows; ++i) {
      double* const row = values + i * columns;
      const std::size_t last = std::min(i + 1, columns);
      for (std::size_t j = k + 1; j < last; ++j) row[j] -= row[k] * pivot_column[j];
    }
  }
}

std::size_t most(const std::vector<std::size_t>& sizes) { return *std::max_element(sizes.begin(), sizes.end()); }

std::size_t most_panels(const Structure& structure) {
  std::size_t count = 0;
  for (const auto& own : structure.own) count = std::max(count, own.size());
  return count;
}

}  // namespace

Factorization::Factorization(Store& store, const Matrix& matrix, const Structure& structure)
    : matrix_(matrix),
      structure_(structure),
      place_(structure.panels.size()),
      values_(store.parts<double>(most(structure.doubles))),
      states_(store.parts<State>(most_panels(structure))),
      queues_(store.parts<Queue>(1)),
      ready_(store.parts<std::int32_t>(most_panels(structure))),
      tasks_(store.parts<netvm::counting_semaphore<>>(1)) {
  for (const auto& own : structure.own) {
    for (std::size_t i = 0; i < own.size(); ++i) place_[static_cast<std::size_t>(own[i])] = i;
  }
  for (std::size_t i = 0; i < structure.panels.size(); ++i) {
    const auto index = static_cast<std::int32_t>(i);
    store.bind(state(index).lock, &state(index).missing);
    store.bind(state(index).lock, values(index), panel(index).doubles());
  }
  for (int rank = 0; rank < store.processors(); ++rank) {
    store.bind(queues_.of(rank)->lock, &queues_.of(rank)->count);
    store.bind(queues_.of(rank)->lock, ready_.of(rank), std::max<std::size_t>(1, structure.own[static_cast<std::size_t>(rank)].size()));
  }
}

double* Factorization::values(std::int32_t index) const { return values_.of(panel(index).owner) + panel(index).place; }

Factorization::State& Factorization::state(std::int32_t index) const {
  return states_.of(panel(index).owner)[place_[static_cast<std::size_t>(index)]];
}

ProcessorTime Factorization::run(Team& team) {
  make_input(team);
  team.barrier();
  ProcessorTime time;
  const double start = clock_seconds();
  std::vector<double> product;
  for (const std::int32_t first : structure_.own[static_cast<std::size_t>(team.rank())]) {
    if (panel(first).updates == 0) push(team, first);
  }
  for (std::size_t done = 0; done < structure_.own[static_cast<std::size_t>(team.rank())].size(); ++done) {
    const double before = clock_seconds();
    team.acquire(*tasks_.of(team.rank()));
    const std::int32_t index = pop(team);
    time.part += clock_seconds() - before;
    complete(team, index);
    update_targets(team, index, product);
  }
  team.barrier();
  time.total = clock_seconds() - start;
  return time;
}

void Factorization::make_input(Team& team) {
  for (const std::int32_t index : structure_.own[static_cast<std::size_t>(team.rank())]) {
    const Panel& own = panel(index);
    double* const to = values(index);
    const auto columns = static_cast<std::size_t>(own.columns);
    for (std::size_t c = 0; c < columns; ++c) {
      const std::size_t column = static_cast<std::size_t>(own.first) + c;
      to[c * columns + c] = matrix_.diagonal[column];
      for (const Matrix::Entry& entry : matrix_.below[column]) {
        const auto row = static_cast<std::size_t>(std::lower_bound(own.rows.begin(), own.rows.end(), entry.row) - own.rows.begin());
        to[row * columns + c] = entry.value;
      }
    }
    state(index).missing = own.updates;
  }
}

void Factorization::push(Team& team, std::int32_t index) {
  const int owner = panel(index).owner;
  Queue& queue = *queues_.of(owner);
  {
    const TeamLock guard(team, queue.lock);
    ready_.of(owner)[queue.count++] = index;
  }
  team.release(*tasks_.of(owner));
}

/// The newest: its values are most likely still here.
std::int32_t Factorization::pop(Team& team) {
  Queue& queue = *queues_.of(team.rank());
  const TeamLock guard(team, queue.lock);
  if (queue.count <= 0) throw std::runtime_error("there is a permit for no task: the structure of the factor is wrong");
  return ready_.of(team.rank())[--queue.count];
}

void Factorization::complete(Team& team, std::int32_t index) {
  const TeamLock guard(team, state(index).lock);
  complete_dense(values(index), panel(index).rows.size(), static_cast<std::size_t>(panel(index).columns));
}

void Factorization::update_targets(Team& team, std::int32_t index, std::vector<double>& product) {
  const Panel& from = panel(index);
  const double* const values_of_from = values(index);
  const auto columns = static_cast<std::size_t>(from.columns);
  structure_.for_each_target(from, [&](std::int32_t target, std::size_t begin, std::size_t end) {
    const std::size_t width = end - begin;
    product.assign((from.rows.size() - begin) * width, 0.0);
    for (std::size_t i = begin; i < from.rows.size(); ++i) {
      const double* const a = values_of_from + i * columns;
      for (std::size_t j = begin; j < end && j <= i; ++j) {
        const double* const b = values_of_from + j * columns;
        double sum = 0;
        for (std::size_t k = 0; k < columns; ++k) sum += a[k] * b[k];
        product[(i - begin) * width + (j - begin)] = sum;
      }
    }
    if (subtract(team, from, target, begin, end, product)) push(team, target);
  });
}

/// Whether that was the last update that the target waited for.
bool Factorization::subtract(Team& team, const Panel& from, std::int32_t target, std::size_t begin, std::size_t end,
                             const std::vector<double>& product) {
  const Panel& to = panel(target);
  const auto columns = static_cast<std::size_t>(to.columns);
  const std::size_t width = end - begin;
  State& shared = state(target);
  const TeamLock guard(team, shared.lock);
  double* const values_of_to = values(target);
  std::size_t row = 0;
  for (std::size_t i = begin; i < from.rows.size(); ++i) {
    while (to.rows[row] != from.rows[i]) ++row;  // every row of `from` below its columns is a row of `to`
    for (std::size_t j = begin; j < end && j <= i; ++j)
      values_of_to[row * columns + static_cast<std::size_t>(from.rows[j] - to.first)] -= product[(i - begin) * width + (j - begin)];
  }
  return --shared.missing == 0;
}

}  // namespace splash2::cholesky
