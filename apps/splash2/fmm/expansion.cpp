#include "apps/splash2/fmm/expansion.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace splash2::fmm {

namespace {

using Terms = std::array<Complex, kMostTerms + 1>;
Complex& at(Terms& terms, int k) { return terms[static_cast<std::size_t>(k)]; }

}  // namespace

Expansions::Expansions(int terms) : terms_(terms), pascal_(2 * length() * (length() + 1)) {
  const std::size_t width = length() + 1;
  for (std::size_t n = 0; n < 2 * length(); ++n) {
    pascal_[n * width] = 1;
    for (std::size_t k = 1; k < width && n > 0; ++k)
      pascal_[n * width + k] = pascal_[(n - 1) * width + k - 1] + pascal_[(n - 1) * width + k];
  }
}

int Expansions::terms_for(double precision) { return std::clamp(static_cast<int>(std::ceil(-std::log2(precision))), 1, kMostTerms); }

void Expansions::add_mass(double mass, Complex w, Complex* to) const {
  to[0] += mass;
  Complex power = mass;
  for (int k = 1; k <= terms_; ++k) {
    power = times(power, w);
    to[k] -= power / static_cast<double>(k);
  }
}

void Expansions::add_distant_mass(double mass, Complex w, double r, Complex* to) const {
  to[0] += mass * std::log(std::abs(w) * r);
  const Complex one_by_w = inverse(w);
  Complex power = mass;
  for (int k = 1; k <= terms_; ++k) {
    power = times(power, one_by_w);
    to[k] -= power / static_cast<double>(k);
  }
}

void Expansions::add_child(const Complex* child, Complex shift, Complex* to) const {
  Terms shifted;  // powers of the shift
  shifted[0] = 1;
  for (int l = 1; l <= terms_; ++l) at(shifted, l) = times(at(shifted, l - 1), shift);
  to[0] += child[0];
  for (int l = 1; l <= terms_; ++l) {
    Complex sum = times(child[0], at(shifted, l)) * (-1.0 / l);
    double scale = 0.5;  // the child's edge is half as long
    for (int k = 1; k <= l; ++k, scale /= 2) sum += times(child[k], at(shifted, l - k)) * (scale * choose(l - 1, k - 1));
    to[l] += sum;
  }
}

void Expansions::add_multipole(const Complex* from, Complex shift, double r, Complex* to) const {
  const Complex one_by_shift = inverse(shift);
  Terms terms;  // of the multipole, at the place of the local expansion's centre
  Complex power = 1;
  for (int k = 1; k <= terms_; ++k) {
    power = -times(power, one_by_shift);
    at(terms, k) = times(from[k], power);
  }
  const double mass = from[0].real();
  to[0] += mass * std::log(std::abs(shift) * r);
  for (int k = 1; k <= terms_; ++k) to[0] += at(terms, k);
  power = 1;
  for (int l = 1; l <= terms_; ++l) {
    power = times(power, one_by_shift);
    Complex sum = -mass / l;
    for (int k = 1; k <= terms_; ++k) sum += at(terms, k) * choose(l + k - 1, k - 1);
    to[l] += times(sum, power);
  }
}

void Expansions::add_parent(const Complex* parent, Complex shift, Complex* to) const {
  Terms moved;
  std::copy_n(parent, length(), moved.begin());
  for (int i = 0; i < terms_; ++i) {  // Horner's rule, again and again: the polynomial about the child's centre
    for (int k = terms_ - 1; k >= i; --k) at(moved, k) += times(at(moved, k + 1), shift);
  }
  double scale = 1;
  for (int k = 0; k <= terms_; ++k, scale /= 2) to[k] += at(moved, k) * scale;
}

Field Expansions::of_multipole(const Complex* from, Complex w, double r) const {
  const Complex one_by_w = inverse(w);
  Complex value;
  Complex slope;
  for (int k = terms_; k >= 1; --k) {
    value = times(value + from[k], one_by_w);
    slope = times(slope + from[k] * static_cast<double>(k), one_by_w);
  }
  const double mass = from[0].real();
  return {mass * std::log(std::abs(w) * r) + value.real(), times(mass - slope, one_by_w) * (1 / r)};
}

Field Expansions::of_local(const Complex* from, Complex w, double r) const {
  Complex value = from[terms_];
  Complex slope;
  for (int k = terms_ - 1; k >= 0; --k) {
    slope = times(slope, w) + value;
    value = times(value, w) + from[k];
  }
  return {value.real(), slope * (1 / r)};
}

}  // namespace splash2::fmm
