// Canaries of the sequentially consistent protocols.
#include "dsm/protocols/sc_directory.hpp"
#include "dsm/protocols/sc_dynamic.hpp"
#include "dsm/protocols/sc_fixed.hpp"
#include "tests/support/canary_parts.hpp"

namespace netvm::test {

namespace {

using dsm::ScDirectory;
using dsm::ScDynamic;
using dsm::ScFixed;

template <class P>
class DropsInvalidation final : public P {
 public:
  using P::P;

 private:
  void lower_access(std::span<const PageId> units, Access to) override {
    if (to == Access::none && this->env().entry(units.front()).access() == Access::read && misses(this->env())) return;
    P::lower_access(units, to);
  }
};

template <class P>
class UpgradesWithoutData final : public P {
 public:
  using P::P;

 private:
  [[nodiscard]] bool needs_data(bool has_copy, bool) const override { return !has_copy; }
};

// The bytes are sent away while the application may still write.
template <class P>
class SendsTooEarly final : public P {
 public:
  using P::P;

 private:
  void lower_access(std::span<const PageId> units, Access to) override {
    if (to == Access::read && this->env().entry(units.front()).access() == Access::write && misses(this->env())) return;
    P::lower_access(units, to);
  }
};

class TakesWrittenForClean final : public ScDirectory {
 public:
  using ScDirectory::ScDirectory;

 private:
  [[nodiscard]] bool is_dirty(dsm::sc::Phase phase) const override { return ScDirectory::is_dirty(phase) && !misses(env()); }
};

// A read that comes while the ownership is on its way is answered with what is here.
template <class P>
class ServesBeforeItOwns final : public P {
 public:
  using P::P;

 private:
  using typename dsm::Ivy::Request;
  [[nodiscard]] bool may_serve(const Request& request, bool owner, bool in_transit) const override {
    return P::may_serve(request, owner, in_transit) || (!owner && in_transit && !request.exclusive);
  }
};

// Who was the owner before answers a read that it should have passed on.
template <class P>
class ServesWhatItLost final : public P {
 public:
  using P::P;

 private:
  using typename dsm::Ivy::Request;
  [[nodiscard]] bool passes_on(const Request& request) const override { return request.exclusive || !misses(this->env()); }
  [[nodiscard]] bool may_serve(const Request& request, bool owner, bool in_transit) const override {
    return P::may_serve(request, owner, in_transit) || (!owner && !in_transit && !request.exclusive);
  }
};

template <class P>
void add_ivy(std::string_view protocol, std::vector<Canary>& all) {
  all.push_back({"drops an invalidation", protocol, make_canary<DropsInvalidation<P>>});
  all.push_back({"grants an upgrade without data", protocol, make_canary<UpgradesWithoutData<P>>});
  all.push_back({"sends a page away without revoking write access", protocol, make_canary<SendsTooEarly<P>>});
  all.push_back({"serves while the ownership is on its way", protocol, make_canary<ServesBeforeItOwns<P>>});
  all.push_back({"serves although it is not the owner any more", protocol, make_canary<ServesWhatItLost<P>>});
}

}  // namespace

void add_sc_canaries(std::vector<Canary>& all) {
  all.push_back({"drops an invalidation", "sc-directory", make_canary<DropsInvalidation<ScDirectory>>});
  all.push_back({"grants an upgrade without data", "sc-directory", make_canary<UpgradesWithoutData<ScDirectory>>});
  all.push_back({"writes a page back without revoking write access", "sc-directory", make_canary<SendsTooEarly<ScDirectory>>});
  all.push_back({"takes a page that it wrote for clean", "sc-directory", make_canary<TakesWrittenForClean>});
  add_ivy<ScFixed>("sc-fixed", all);
  add_ivy<ScDynamic>("sc-dynamic", all);
}

}  // namespace netvm::test
