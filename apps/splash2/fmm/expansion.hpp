// Expansions of the potential of masses in the plane, sum of m log|z - z_i|, as the real part of complex series (Greengard, Rokhlin, J. Comput. Phys. 73, 1987).
//
// 1. A box has a centre c and half an edge r. Places are given scaled, w = (z - c) / r, so that the numbers of a series neither vanish nor grow with the level.
// 2. Multipole, for places away from the box: a_0 (log w + log r) + sum of a_k w^-k. Local, for places inside: sum of b_k w^k. k = 1 .. terms.
// 3. With boxes that do not touch, an expansion's error falls at least by 0.55 with each term in the worst place, and by 0.5 nearly everywhere: terms = log2(1 / precision),
//    as in the suite.
#pragma once

#include <complex>
#include <vector>

namespace splash2::fmm {

using Complex = std::complex<double>;

/// Without the cases of infinity that std::complex's operator looks for.
inline Complex times(Complex a, Complex b) {
  return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
}
inline Complex inverse(Complex a) { return std::conj(a) * (1 / std::norm(a)); }

/// The potential and its derivative: gravity pulls with minus the derivative's conjugate.
struct Field {
  double potential = 0;
  Complex slope;
  Field& operator+=(const Field& other) { return potential += other.potential, slope += other.slope, *this; }
};

/// Operations on series of `terms` + 1 numbers.
class Expansions {
 public:
  explicit Expansions(int terms);
  static int terms_for(double precision);
  [[nodiscard]] int terms() const { return terms_; }
  [[nodiscard]] std::size_t length() const { return static_cast<std::size_t>(terms_) + 1; }

  /// Each adds to what `to` has. A mass at w, in the box or (local) away from it; half an edge is r.
  void add_mass(double mass, Complex w, Complex* to) const;
  void add_distant_mass(double mass, Complex w, double r, Complex* to) const;
  /// From a child, whose centre lies at `shift` in the parent's scale, to the parent.
  void add_child(const Complex* child, Complex shift, Complex* to) const;
  /// From a multipole of a box of the same size, whose centre lies at `shift`.
  void add_multipole(const Complex* from, Complex shift, double r, Complex* to) const;
  /// From the parent's local expansion to that of a child at `shift` in the parent's scale.
  void add_parent(const Complex* parent, Complex shift, Complex* to) const;

  [[nodiscard]] Field of_multipole(const Complex* from, Complex w, double r) const;
  [[nodiscard]] Field of_local(const Complex* from, Complex w, double r) const;

 private:
  [[nodiscard]] double choose(int n, int k) const {
    return pascal_[static_cast<std::size_t>(n) * (length() + 1) + static_cast<std::size_t>(k)];
  }
  int terms_;
  std::vector<double> pascal_;  ///< n over k, n up to twice the terms
};

inline constexpr int kMostTerms = 60;

}  // namespace splash2::fmm
