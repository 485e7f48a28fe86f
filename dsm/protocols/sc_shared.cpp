#include "dsm/protocols/sc_shared.hpp"

#include <algorithm>
#include <memory>
#include <utility>

namespace netvm::dsm::sc {

namespace {

constexpr std::uint8_t kMaxLosses = 5;
Nanos hold_time(std::uint8_t losses) { return losses < 2 ? 0 : kQuick << (losses - 1); }

// Notices if the bytes did not arrive; deletes itself.
struct Push {
  PageId page;
  NodeId to;
  nic::Completion completion{&Push::ended, this};

  Push(PageId what, NodeId whither) : page(what), to(whither) {}
  static void ended(nic::Completion& self, void* context) {
    const std::unique_ptr<Push> me(static_cast<Push*>(context));
    if (self.status() == Status::cancelled || self.status() == Status::peer_dead) return;  // the job ends (Traits::outlives_nodes)
    NETVM_CHECK(ok(self.status()), "page %llu cannot be written to node %u: %s", number(me->page), me->to.value,
                describe(self.status()).data());
  }
};

}  // namespace

Nanos kept_until(const Copy& copy, Nanos least, Env& env) {
  const Nanos hold = std::max(hold_time(copy.losses), least);
  if (hold == 0) return 0;
  const auto jitter = static_cast<Nanos>(env.random() % static_cast<std::uint64_t>(hold / 2));
  const Nanos until = static_cast<Nanos>(copy.number) + hold / 2 + jitter;
  return env.now() >= until ? 0 : until;
}

void note_loss(Copy& copy, Nanos now) {
  const Nanos age = now - static_cast<Nanos>(copy.number);
  const bool soon = age <= std::max(kQuick, 2 * hold_time(copy.losses));
  copy.losses = soon ? std::min<std::uint8_t>(static_cast<std::uint8_t>(copy.losses + 1), kMaxLosses) : std::uint8_t{0};
}

void push_page(ProtocolEnv& env, PageId page, NodeId to, const Message& message, std::span<const std::byte> more) {
  const auto post = [&env, page, to, message](std::span<const std::byte> rest) {
    env.post_put(PageRange{page, 1}, to, &(new Push(page, to))->completion);
    env.send(to, std::as_bytes(std::span(&message, 1)), rest);
  };
  if (const FramePins pins = env.try_pin({page, 1}, false); pins.holds()) return post(more);
  // It was evicted meanwhile: bringing it in would block the handler that calls.
  (void)env.spawn([&env, page, post, rest = std::vector<std::byte>(more.begin(), more.end())] {
    const FramePins pins = env.pin({page, 1}, false);
    post(rest);
  });
}

}  // namespace netvm::dsm::sc
