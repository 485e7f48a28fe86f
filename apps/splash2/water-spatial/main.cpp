// water-spatial: molecular dynamics of liquid water over cells, SPLASH-2's application on NetVM. docs/apps/water.md.
#include "apps/splash2/water/program.hpp"
#include "apps/splash2/water/spatial.hpp"

namespace {

int run(int argc, char** argv) {
  splash2::water::WaterOptions chosen;
  splash2::Options options("water-spatial", "Simulates liquid water, looking at neighbouring cells of the box (SPLASH-2's water-spatial).");
  chosen.add_to(options);
  options.footer("Example: netvmrun -n 4 water-spatial -n512 -s");
  options.parse(argc, argv);
  return splash2::water::run_water("water-spatial", chosen, [](splash2::Store& store, const splash2::water::Parameters& parameters) {
    return std::make_unique<splash2::water::Spatial>(store, parameters);
  });
}

}  // namespace

int main(int argc, char** argv) {
  return splash2::run_kernel("water-spatial", [&] { return run(argc, argv); });
}
