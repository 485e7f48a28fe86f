// water-nsquared: molecular dynamics of liquid water over all pairs, SPLASH-2's application on NetVM. docs/apps/water.md.
#include "apps/splash2/water/nsquared.hpp"
#include "apps/splash2/water/program.hpp"

namespace {

int run(int argc, char** argv) {
  splash2::water::WaterOptions chosen;
  std::int64_t group = 8;
  splash2::Options options("water-nsquared", "Simulates liquid water, looking at all pairs of molecules (SPLASH-2's water-nsquared).");
  chosen.add_to(options);
  options.whole("--group", group, {1, 1 << 20}, "G", "Molecules whose forces one lock guards.");
  options.footer("Example: netvmrun -n 4 water-nsquared -n512 -s");
  options.parse(argc, argv);
  return splash2::water::run_water("water-nsquared", chosen, [&](splash2::Store& store, const splash2::water::Parameters& parameters) {
    return std::make_unique<splash2::water::NSquared>(store, parameters, static_cast<std::size_t>(group));
  });
}

}  // namespace

int main(int argc, char** argv) {
  return splash2::run_kernel("water-nsquared", [&] { return run(argc, argv); });
}
