#include "tests/support/canaries.hpp"

#include "dsm/protocols/hlrc.hpp"
#include "dsm/protocols/sc_directory.hpp"
#include "runtime/check.hpp"

namespace netvm::test {

namespace {

using dsm::Hlrc;
using dsm::ProtocolEnv;
using dsm::ScDirectory;

template <class P>
std::unique_ptr<dsm::Protocol> make(ProtocolEnv& env) {
  return std::make_unique<P>(env);
}

// One of so many chances is missed.
constexpr std::uint64_t kOneOf = 8;
bool misses(ProtocolEnv& env) { return env.env().random() % kOneOf == 0; }

class HlrcDropsInvalidation final : public Hlrc {
 public:
  using Hlrc::Hlrc;

 private:
  bool is_stale(PageId page) override { return !misses(env()) && Hlrc::is_stale(page); }
};

class HlrcForgetsEarlyFlush final : public Hlrc {
 public:
  using Hlrc::Hlrc;

 private:
  [[nodiscard]] bool owes_early_flush() const override { return false; }
};

class ScDropsInvalidation final : public ScDirectory {
 public:
  using ScDirectory::ScDirectory;

 private:
  void lower_access(PageId page, Access to) override {
    if (to == Access::none && env().entry(page).access() == Access::read && misses(env())) return;
    ScDirectory::lower_access(page, to);
  }
};

class ScUpgradesWithoutData final : public ScDirectory {
 public:
  using ScDirectory::ScDirectory;

 private:
  [[nodiscard]] bool needs_data(bool has_copy, bool) const override { return !has_copy; }
};

// The bytes are sent home while the application may still write.
class ScWritesBackTooEarly final : public ScDirectory {
 public:
  using ScDirectory::ScDirectory;

 private:
  void lower_access(PageId page, Access to) override {
    if (to == Access::read && env().entry(page).access() == Access::write && misses(env())) return;
    ScDirectory::lower_access(page, to);
  }
};

}  // namespace

const std::vector<Canary>& canaries() {
  static const std::vector<Canary> all = {
      {"drops an invalidation", "hlrc", make<HlrcDropsInvalidation>},
      {"forgets the notice of a page that was flushed early", "hlrc", make<HlrcForgetsEarlyFlush>},
      {"drops an invalidation", "sc-directory", make<ScDropsInvalidation>},
      {"grants an upgrade without data", "sc-directory", make<ScUpgradesWithoutData>},
      {"writes a page back without revoking write access", "sc-directory", make<ScWritesBackTooEarly>},
  };
  return all;
}

void put_in(const Canary& canary, ClusterOptions& options) {
  const int number = dsm::find_protocol(canary.protocol);
  NETVM_CHECK(number >= 0, "no protocol is called %s", canary.protocol.data());
  options.protocol = canary.protocol;
  options.factories.assign(dsm::protocols().size(), nullptr);
  options.factories[static_cast<std::size_t>(number)] = canary.make;
}

}  // namespace netvm::test
