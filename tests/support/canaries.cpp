#include "tests/support/canaries.hpp"

#include "dsm/protocols/entry.hpp"
#include "dsm/protocols/hlrc.hpp"
#include "dsm/protocols/sc_directory.hpp"
#include "dsm/protocols/scope.hpp"
#include "runtime/check.hpp"

namespace netvm::test {

namespace {

using dsm::Entry;
using dsm::Hlrc;
using dsm::ProtocolEnv;
using dsm::ScDirectory;
using dsm::Scope;

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

class ScopeDropsInvalidation final : public Scope {
 public:
  using Scope::Scope;

 private:
  bool is_stale(PageId page) override { return !misses(env()) && Scope::is_stale(page); }
};

class ScopeKeepsNoticesToItself final : public Scope {
 public:
  using Scope::Scope;

 private:
  [[nodiscard]] bool passes_on() const override { return false; }
};

class ScopeTellsLastFlushOnly final : public Scope {
 public:
  using Scope::Scope;

 private:
  [[nodiscard]] bool tells_flushed_elsewhere() const override { return false; }
};

class EntryForgetsTwins final : public Entry {
 public:
  using Entry::Entry;

 private:
  [[nodiscard]] bool patches_twins() const override { return false; }
};

class EntryTellsTwice final : public Entry {
 public:
  using Entry::Entry;

 private:
  [[nodiscard]] bool settles_twins() const override { return false; }
};

class EntryKeepsToItself final : public Entry {
 public:
  using Entry::Entry;

 private:
  [[nodiscard]] bool passes_on() const override { return false; }
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
      {"drops an invalidation", "scope", make<ScopeDropsInvalidation>},
      {"does not pass on the notices of third nodes", "scope", make<ScopeKeepsNoticesToItself>},
      {"tells a lock only what its own release flushed", "scope", make<ScopeTellsLastFlushOnly>},
      {"does not enter received data in its twins", "entry", make<EntryForgetsTwins>},
      {"sends bound data again at the barrier", "entry", make<EntryTellsTwice>},
      {"does not pass on what came with a lock", "entry", make<EntryKeepsToItself>},
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
