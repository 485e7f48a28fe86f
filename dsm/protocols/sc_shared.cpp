#include "dsm/protocols/sc_shared.hpp"

#include <algorithm>
#include <utility>

namespace netvm::dsm::sc {

namespace {

constexpr std::uint8_t kMaxLosses = 5;
Nanos hold_time(std::uint8_t losses) { return losses < 2 ? 0 : kQuick << (losses - 1); }

}  // namespace

Nanos kept_until(const Copy& copy, Nanos least, Env& env) {
  const Nanos hold = std::max(hold_time(copy.losses), least);
  if (hold == 0) return 0;
  const auto given = static_cast<Nanos>(copy.number);
  const Nanos now = env.now();
  if (now >= given + hold) return 0;
  const auto jitter = static_cast<Nanos>(env.random() % static_cast<std::uint64_t>(hold / 2));
  const Nanos until = given + hold / 2 + jitter;
  return now >= until ? 0 : until;
}

void note_lowered(ProtocolEnv& env, PageId page, Access to) {
  PageEntry& entry = env.entry(page);
  Copy copy = load(entry);
  const Nanos age = env.env().now() - static_cast<Nanos>(copy.number);
  const bool soon = age <= std::max(kQuick, 2 * hold_time(copy.losses));
  copy.losses = soon ? std::min<std::uint8_t>(static_cast<std::uint8_t>(copy.losses + 1), kMaxLosses) : std::uint8_t{0};
  copy.phase = to == Access::none ? Phase::I : Phase::S;
  store(entry, copy);
  if (to == Access::none) env.count(page, Stat::invalidations);
}

void Outbox::add(ProtocolEnv& env, NodeId to, const Message& message) {
  const auto unit_pages = static_cast<std::uint32_t>(env.unit(PageId{message.page}).count);
  Outgoing* const last = !others_.empty() ? &others_.back() : first_ ? &*first_ : nullptr;
  if (last != nullptr && last->to == to && last->more.empty() && last->message.join(message, unit_pages)) return;
  add({to, message, {}});
}

void Outbox::leave(ProtocolEnv& env) {
  const auto send = [&env](const Outgoing& outgoing) {
    env.send(outgoing.to, std::as_bytes(std::span(&outgoing.message, 1)), outgoing.more);
  };
  if (!first_) return;
  send(*std::exchange(first_, {}));
  for (const Outgoing& outgoing : std::exchange(others_, {})) send(outgoing);
}

}  // namespace netvm::dsm::sc
