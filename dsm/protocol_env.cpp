#include "dsm/protocol_env.hpp"

#include <algorithm>
#include <cstring>

#include "dsm/dsm.hpp"
#include "dsm/homes.hpp"
#include "dsm/regions.hpp"
#include "dsm/twin_pool.hpp"
#include "runtime/check.hpp"

namespace netvm::dsm {

namespace {
unsigned long long number(PageId page) { return page.value; }
}  // namespace

// ---- pages -------------------------------------------------------------------------------------------------------------

FramePins ProtocolEnv::pin(PageRange pages, bool write) {
  Result<FramePins> pins = parts_.vm.pin(pages, write);
  NETVM_CHECK(pins.has_value(), "page %llu: the host cannot bring it in (%s) %s", number(pages.first), describe(pins.status()).data(),
              parts_.vm.failure().text);
  return std::move(*pins);
}

FramePins ProtocolEnv::try_pin(PageRange pages, bool write) { return parts_.vm.try_pin(pages, write); }

std::uint64_t ProtocolEnv::most_pins() const { return parts_.vm.most_pins(); }

bool ProtocolEnv::spawn(std::function<void()> task) { return parts_.background.spawn(std::move(task)); }

void ProtocolEnv::set_access(PageRange pages, Access to) {
  std::uint64_t at = pages.first.value;
  while (at != pages.end()) {
    const Access from = entry(PageId{at}).access();
    std::uint64_t end = at + 1;
    while (end != pages.end() && entry(PageId{end}).access() == from) ++end;
    if (from != to) {
      const PageRange run{PageId{at}, end - at};
      parts_.vm.set_access(run, from, to);
      for (std::uint64_t p = at; p != end; ++p) {
        entry(PageId{p}).access_.store(static_cast<std::uint8_t>(to), std::memory_order_relaxed);  // relaxed: lock or latch orders it
      }
    }
    at = end;
  }
}

// ---- homes -------------------------------------------------------------------------------------------------------------

NodeId ProtocolEnv::home_of(PageId page) {
  PageEntry& e = entry(page);
  if (e.home_known()) return e.home();
  const auto found = parts_.regions.find(page);
  NETVM_CHECK(found.has_value(), "page %llu belongs to no allocation that this node knows", number(page));
  const Result<NodeId> home = parts_.homes.find(page, found->extent);
  if (!home) stop(home.status(), "asking for a page's home");
  e.learn_home(*home);
  return *home;
}

// ---- twins and diffs -----------------------------------------------------------------------------------------------------

void ProtocolEnv::make_twin(PageId page) {
  PageEntry& e = entry(page);
  NETVM_CHECK(e.twin == nullptr, "page %llu has a twin already", number(page));
  e.twin = parts_.twins.take();
  std::memcpy(e.twin, frame(page), kPageSize);
  count(page, Stat::twins);
}

void ProtocolEnv::drop_twin(PageId page) {
  PageEntry& e = entry(page);
  if (e.twin == nullptr) return;
  parts_.twins.give(e.twin);
  e.twin = nullptr;
}

std::size_t ProtocolEnv::diff(PageId page, DiffRun* runs) {
  PageEntry& e = entry(page);
  NETVM_CHECK(e.twin != nullptr, "page %llu has no twin to compare with", number(page));
  NETVM_CHECK(e.access() != Access::write, "page %llu is diffed while the application may write it", number(page));
  const std::size_t runs_found = find_diff_runs(e.twin, frame(page), runs);
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < runs_found; ++i) bytes += runs[i].bytes;
  count(page, Stat::diffs);
  count(page, Stat::diff_bytes, bytes);
  return runs_found;
}

// ---- one-sided transfers ---------------------------------------------------------------------------------------------------

void ProtocolEnv::fetch_page(PageId page, NodeId from) { fetch_pages({page, 1}, from); }

void ProtocolEnv::fetch_pages(PageRange pages, NodeId from) {
  const FramePins pins = pin(pages, true);
  const Status status =
      parts_.nic.read(parts_.config.shared[from.value], offset_of(pages.first), frame(pages.first), pages.count * kPageSize);
  NETVM_CHECK(ok(status), "page %llu cannot be read from its copy at node %u: %s", number(pages.first), from.value,
              describe(status).data());
  count(pages.first, Stat::pages_fetched, pages.count);
}

void ProtocolEnv::post_fetch(PageRange pages, NodeId from, nic::Completion* completion) {
  (void)pin(pages, true);  // the caller's pins keep them; this one says that they change
  count(pages.first, Stat::pages_fetched, pages.count);
  parts_.nic.post_read(parts_.config.shared[from.value], offset_of(pages.first), frame(pages.first), pages.count * kPageSize, completion);
}

void ProtocolEnv::put_page(PageId page, NodeId to) {
  const Status status = parts_.nic.write(parts_.config.shared[to.value], offset_of(page), frame(page), kPageSize);
  NETVM_CHECK(ok(status), "page %llu cannot be written to node %u: %s", number(page), to.value, describe(status).data());
}

void ProtocolEnv::post_put(PageRange pages, NodeId to, nic::Completion* completion) {
  parts_.nic.post_write(parts_.config.shared[to.value], offset_of(pages.first), frame(pages.first), pages.count * kPageSize, completion);
}

void ProtocolEnv::post_segments(NodeId to, std::span<const nic::Segment> segments, nic::Completion* completion) {
  parts_.nic.post_write_vector(parts_.config.shared[to.value], segments, completion);
}

void ProtocolEnv::wait(nic::Completion& completion, const char* what, NodeId peer) {
  const Status status = parts_.nic.wait(completion);
  NETVM_CHECK(ok(status), "%s, node %u: %s", what, peer.value, describe(status).data());
}

// ---- messages ----------------------------------------------------------------------------------------------------------------

void ProtocolEnv::send(NodeId to, std::span<const std::byte> body, std::span<const std::byte> more) {
  // Eight bytes before the body say whose it is and keep it aligned.
  std::vector<std::byte> message(kProtocolHeaderBytes + body.size() + more.size());
  message[0] = static_cast<std::byte>(protocol_);
  if (!body.empty()) std::memcpy(message.data() + kProtocolHeaderBytes, body.data(), body.size());
  if (!more.empty()) std::memcpy(message.data() + kProtocolHeaderBytes + body.size(), more.data(), more.size());
  parts_.nic.send(to, nic::MessageKind::dsm_protocol, message);
}

// ---- statistics ----------------------------------------------------------------------------------------------------------------

void ProtocolEnv::count(PageId page, Stat stat, std::uint64_t by) {
  parts_.stats.add(stat, by);
  const PageEntry& e = entry(page);
  if (e.attached()) parts_.regions.stats(e.region()).add(stat, by);
}

void ProtocolEnv::stop(Status status, const char* what) const {
  NETVM_CHECK(false, "%s: %s", what, describe(status).data());
  __builtin_unreachable();
}

}  // namespace netvm::dsm
