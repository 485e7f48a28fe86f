#include "apps/splash2/water/model.hpp"

#include <algorithm>
#include <cmath>

#include "apps/splash2/common/random.hpp"

namespace splash2::water {

namespace {

constexpr double kForceUnit = 418.4;          // amu A^2 / ps^2 in a kcal/mol
constexpr double kCoulomb = 332.0637;         // kcal A / (mol e^2)
constexpr double kBoltzmann = 0.0019872041;   // kcal / (mol K)
constexpr double kTemperature = 298;          // K
constexpr double kVolumeOfMolecule = 29.915;  // A^3 at 1 g / cm^3
constexpr double kMass[kSites] = {15.9994, 1.00794, 1.00794};
constexpr double kCharge[kSites] = {-0.82, 0.41, 0.41};
// SPC/Fw.
constexpr double kBond = 1059.162;  // kcal / (mol A^2)
constexpr double kBondLength = 1.012;
constexpr double kAngle = 75.90;  // kcal / (mol rad^2)
constexpr double kAngleAtRest = 113.24 * M_PI / 180;
constexpr double kWell = 0.1554253;
constexpr double kDiameter = 3.165492;
constexpr double kFade = 1.0;  // A before the cut-off
// Gear's coefficients of seven values for second-order equations.
constexpr double kGear[kDerivatives] = {863.0 / 6048, 665.0 / 1008, 1, 25.0 / 36, 35.0 / 144, 1.0 / 24, 1.0 / 360};

/// Two independent normal deviates (Box and Muller).
std::array<double, 2> normal(std::uint64_t first, std::uint64_t second) {
  const double radius = std::sqrt(-2 * std::log(1 - uniform_unit(first)));
  const double angle = 2 * M_PI * uniform_unit(second);
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

/// A rotation that is uniform among all (Shoemake), applied to v.
Vec3 turned(std::size_t number, Vec3 v) {
  const double share = uniform_unit(mix64(5, 3 * number));
  const double a = 2 * M_PI * uniform_unit(mix64(5, 3 * number + 1));
  const double b = 2 * M_PI * uniform_unit(mix64(5, 3 * number + 2));
  const Vec3 axis{std::sqrt(1 - share) * std::sin(a), std::sqrt(1 - share) * std::cos(a), std::sqrt(share) * std::sin(b)};
  const double w = std::sqrt(share) * std::cos(b);
  return v + 2 * w * cross(axis, v) + 2 * cross(axis, cross(axis, v));
}

}  // namespace

double Parameters::side() const { return std::cbrt(kVolumeOfMolecule * static_cast<double>(molecules)); }

double Parameters::cutoff_used() const { return cutoff > 0 ? cutoff : std::min(6.2, side() / 2); }

Input::Input(const Parameters& parameters) : parameters_(parameters), lattice_(1) {
  while (lattice_ * lattice_ * lattice_ < parameters.molecules) ++lattice_;
  double mass = 0;
  Vec3 momentum;
  for (std::size_t number = 0; number < parameters.molecules; ++number) {
    const Sites velocity = velocities(number);
    for (int s = 0; s < kSites; ++s) {
      momentum += velocity.at[s] * kMass[s];
      mass += kMass[s];
    }
  }
  drift_ = momentum * (1 / mass);
}

Sites Input::velocities(std::size_t number) const {
  Sites velocity;
  for (int s = 0; s < kSites; ++s) {
    const double scale = std::sqrt(kBoltzmann * kTemperature * kForceUnit / kMass[s]);
    const std::size_t at = (number * kSites + static_cast<std::size_t>(s)) * 4;
    const auto [x, y] = normal(mix64(4, at), mix64(4, at + 1));
    const auto [z, unused] = normal(mix64(4, at + 2), mix64(4, at + 3));
    static_cast<void>(unused);
    velocity.at[s] = Vec3{x, y, z} * scale;
  }
  return velocity;
}

void Input::make(std::size_t number, Sites& position, Motion& motion) const {
  const double spacing = parameters_.side() / static_cast<double>(lattice_);
  const auto along = [&](std::size_t index) { return spacing * (static_cast<double>(index % lattice_) + 0.5); };
  const Vec3 oxygen{along(number), along(number / lattice_), along(number / lattice_ / lattice_)};
  const double half = kAngleAtRest / 2;
  position.at[0] = oxygen;
  position.at[1] = oxygen + turned(number, Vec3{std::sin(half), std::cos(half), 0} * kBondLength);
  position.at[2] = oxygen + turned(number, Vec3{-std::sin(half), std::cos(half), 0} * kBondLength);
  motion = Motion{};
  motion.number = number;
  motion.derivative[0] = velocities(number);
  for (Vec3& v : motion.derivative[0].at) v = (v - drift_) * parameters_.time_step;
}

double intra_forces(const Sites& position, Sites& force) {
  const Vec3 a = position.at[1] - position.at[0];
  const Vec3 b = position.at[2] - position.at[0];
  const double length_a = length(a);
  const double length_b = length(b);
  const double cosine = std::clamp(dot(a, b) / (length_a * length_b), -1.0, 1.0);
  const double bend = std::acos(cosine) - kAngleAtRest;
  const double stretch_a = length_a - kBondLength;
  const double stretch_b = length_b - kBondLength;
  // d(angle)/da = (cosine a/|a| - b/|b|) / (|a| sine), and the same for b.
  const double sine = std::max(1e-9, std::sqrt(1 - cosine * cosine));
  const Vec3 unit_a = a * (1 / length_a);
  const Vec3 unit_b = b * (1 / length_b);
  force.at[1] = unit_a * (-kBond * stretch_a) - (unit_a * cosine - unit_b) * (kAngle * bend / (length_a * sine));
  force.at[2] = unit_b * (-kBond * stretch_b) - (unit_b * cosine - unit_a) * (kAngle * bend / (length_b * sine));
  force.at[0] = -(force.at[1] + force.at[2]);
  return 0.5 * kBond * (stretch_a * stretch_a + stretch_b * stretch_b) + 0.5 * kAngle * bend * bend;
}

Pair::Pair(const Parameters& parameters) : side_(parameters.side()) {
  const double cutoff = parameters.cutoff_used();
  cutoff2_ = cutoff * cutoff;
  const double start = std::max(cutoff - kFade, 0.5 * cutoff);
  start2_ = start * start;
}

double Pair::operator()(const Sites& a, const Sites& b, Sites& force_a, Sites& force_b) const {
  const Vec3 apart = a.at[0] - b.at[0];
  const Vec3 shift{side_ * std::nearbyint(apart.x / side_), side_ * std::nearbyint(apart.y / side_),
                   side_ * std::nearbyint(apart.z / side_)};
  const Vec3 oxygens = apart - shift;
  const double distance2 = norm2(oxygens);
  if (distance2 >= cutoff2_) return 0;

  double fade = 1;
  double fade_slope = 0;  // by the squared distance
  if (distance2 > start2_) {
    const double x = (cutoff2_ - distance2) / (cutoff2_ - start2_);
    fade = x * x * (3 - 2 * x);
    fade_slope = -6 * x * (1 - x) / (cutoff2_ - start2_);
  }
  const double inverse2 = kDiameter * kDiameter / distance2;
  const double inverse6 = inverse2 * inverse2 * inverse2;
  double energy = 4 * kWell * inverse6 * (inverse6 - 1);
  const Vec3 repulsion = oxygens * (fade * 24 * kWell * inverse6 * (2 * inverse6 - 1) / distance2);
  force_a.at[0] += repulsion;
  force_b.at[0] -= repulsion;
  for (int i = 0; i < kSites; ++i) {
    for (int j = 0; j < kSites; ++j) {
      const Vec3 between = a.at[i] - b.at[j] - shift;
      const double squared = norm2(between);
      const double potential = kCoulomb * kCharge[i] * kCharge[j] / std::sqrt(squared);
      energy += potential;
      const Vec3 force = between * (fade * potential / squared);
      force_a.at[i] += force;
      force_b.at[j] -= force;
    }
  }
  const Vec3 fading = oxygens * (-2 * fade_slope * energy);
  force_a.at[0] += fading;
  force_b.at[0] -= fading;
  return fade * energy;
}

/// Times dt^2 / 2, as derivatives are kept.
Vec3 Gear::acceleration(const Sites& force, int site) const { return force.at[site] * (0.5 * dt_ * dt_ * kForceUnit / kMass[site]); }

void Gear::set_acceleration(Motion& motion, const Sites& force) const {
  for (int s = 0; s < kSites; ++s) motion.derivative[1].at[s] = acceleration(force, s);
}

void Gear::displace(Sites& position, const Motion& motion, int steps) const {
  for (int s = 0; s < kSites; ++s) position.at[s] += motion.derivative[0].at[s] * steps + motion.derivative[1].at[s] * (steps * steps);
}

void Gear::set_higher_derivatives(Motion& motion, const Sites& force_before, const Sites& force_after) const {
  for (int s = 0; s < kSites; ++s) {
    const Vec3 before = acceleration(force_before, s);
    const Vec3 after = acceleration(force_after, s);
    motion.derivative[2].at[s] = (after - before) * (1.0 / 6);
    motion.derivative[3].at[s] = (after + before - motion.derivative[1].at[s] * 2) * (1.0 / 12);
  }
}

void Gear::predict(Sites& position, Motion& motion) const {
  for (int s = 0; s < kSites; ++s) {
    // Pascal's triangle, in place.
    for (int from = kDerivatives - 1; from > 0; --from) {
      for (int q = from; q < kDerivatives; ++q) {
        Vec3& lower = q == 1 ? position.at[s] : motion.derivative[q - 2].at[s];
        lower += motion.derivative[q - 1].at[s];
      }
    }
  }
}

double Gear::correct(Sites& position, Motion& motion, const Sites& force) const {
  for (int s = 0; s < kSites; ++s) {
    const Vec3 error = acceleration(force, s) - motion.derivative[1].at[s];
    position.at[s] += error * kGear[0];
    for (int q = 1; q < kDerivatives; ++q) motion.derivative[q - 1].at[s] += error * kGear[q];
  }
  Vec3 back;
  for (int axis = 0; axis < 3; ++axis) back[axis] = side_ * std::floor(position.at[0][axis] / side_);
  for (Vec3& site : position.at) site -= back;
  return kinetic(motion);
}

double Gear::kinetic(const Motion& motion) const {
  double energy = 0;
  for (int s = 0; s < kSites; ++s) energy += 0.5 * kMass[s] * norm2(motion.derivative[0].at[s]);
  return energy / (dt_ * dt_ * kForceUnit);
}

Vec3 Gear::momentum(const Motion& motion) const {
  Vec3 momentum;
  for (int s = 0; s < kSites; ++s) momentum += motion.derivative[0].at[s] * (kMass[s] / dt_);
  return momentum;
}

}  // namespace splash2::water
