// Canaries of the protocols in which nobody is told to give up a page: self, lease.
#include "dsm/protocols/lease.hpp"
#include "dsm/protocols/self.hpp"
#include "tests/support/canary_parts.hpp"

namespace netvm::test {

namespace {

using dsm::Lease;
using dsm::Self;

class SelfForgetsInvalidation final : public Self {
 public:
  using Self::Self;

 private:
  bool is_stale(PageId page) override { return Self::is_stale(page) && !misses(env()); }
};

class SelfBeginsToWriteSilently final : public Self {
 public:
  using Self::Self;

 private:
  [[nodiscard]] bool tells_others() const override { return false; }
};

class SelfOverlooksWriters final : public Self {
 public:
  using Self::Self;

 private:
  [[nodiscard]] bool others_write(const dsm::PageEntry&, std::uint64_t) const override { return false; }
};

class SelfKeepsChanges final : public Self {
 public:
  using Self::Self;
  void on_release(dsm::SyncId object) override {
    if (!misses(env())) Self::on_release(object);
  }
};

class LeaseOutlived final : public Lease {
 public:
  using Lease::Lease;

 private:
  bool is_stale(PageId page) override { return !misses(env()) && Lease::is_stale(page); }
};

class LeaseRenewsAnything final : public Lease {
 public:
  using Lease::Lease;

 private:
  [[nodiscard]] bool is_current(std::uint64_t, std::uint64_t) const override { return true; }
};

class LeaseWritesWithinLeases final : public Lease {
 public:
  using Lease::Lease;

 private:
  [[nodiscard]] std::uint64_t time_of_write(std::uint64_t time) const override { return time; }
};

class LeaseKeepsChanges final : public Lease {
 public:
  using Lease::Lease;
  void on_release(dsm::SyncId object) override {
    if (!misses(env())) Lease::on_release(object);
  }
};

}  // namespace

void add_unasked_canaries(std::vector<Canary>& all) {
  all.push_back({"forgets to give up a page", "self", make_canary<SelfForgetsInvalidation>});
  all.push_back({"does not tell the readers of a page that it begins to write it", "self", make_canary<SelfBeginsToWriteSilently>});
  all.push_back({"takes what others write for read-only", "self", make_canary<SelfOverlooksWriters>});
  all.push_back({"releases a lock without writing its changes back", "self", make_canary<SelfKeepsChanges>});
  all.push_back({"keeps a copy beyond its lease", "lease", make_canary<LeaseOutlived>});
  all.push_back({"renews a lease although the page was written", "lease", make_canary<LeaseRenewsAnything>});
  all.push_back({"gives a write a time within a lease", "lease", make_canary<LeaseWritesWithinLeases>});
  all.push_back({"releases a lock without writing its changes back", "lease", make_canary<LeaseKeepsChanges>});
}

}  // namespace netvm::test
