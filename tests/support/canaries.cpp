#include "tests/support/canaries.hpp"

#include "dsm/protocols/entry.hpp"
#include "dsm/protocols/hlrc.hpp"
#include "dsm/protocols/scope.hpp"
#include "runtime/check.hpp"
#include "tests/support/canary_parts.hpp"

namespace netvm::test {

namespace {

using dsm::Entry;
using dsm::Hlrc;
using dsm::Scope;

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

class HlrcTakesNoPageLock final : public Hlrc {
 public:
  using Hlrc::Hlrc;

 private:
  [[nodiscard]] bool waits_for_fetches() const override { return false; }
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

class EntryForgetsLocksAtBarriers final : public Entry {
 public:
  using Entry::Entry;

 private:
  [[nodiscard]] bool sees_to_locks_before_flushes() const override { return false; }
};

class EntryKeepsToItself final : public Entry {
 public:
  using Entry::Entry;

 private:
  [[nodiscard]] bool passes_on() const override { return false; }
};

}  // namespace

const std::vector<Canary>& canaries() {
  static const std::vector<Canary> all = [] {
    std::vector<Canary> made = {
        {"drops an invalidation", "hlrc", make_canary<HlrcDropsInvalidation>},
        {"forgets the notice of a page that was flushed early", "hlrc", make_canary<HlrcForgetsEarlyFlush>},
        {"gives a page up while another thread fetches it", "hlrc", make_canary<HlrcTakesNoPageLock>},
        {"drops an invalidation", "scope", make_canary<ScopeDropsInvalidation>},
        {"does not pass on the notices of third nodes", "scope", make_canary<ScopeKeepsNoticesToItself>},
        {"tells a lock only what its own release flushed", "scope", make_canary<ScopeTellsLastFlushOnly>},
        {"does not enter received data in its twins", "entry", make_canary<EntryForgetsTwins>},
        {"sends bound data again at the barrier", "entry", make_canary<EntryTellsTwice>},
        {"does not release locks before a barrier", "entry", make_canary<EntryForgetsLocksAtBarriers>},
        {"does not pass on what came with a lock", "entry", make_canary<EntryKeepsToItself>},
    };
    add_sc_canaries(made);
    add_release_canaries(made);
    add_unasked_canaries(made);
    return made;
  }();
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
