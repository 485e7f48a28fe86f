#include "nic/doorbell.hpp"

namespace netvm::nic {

namespace {

bool wake(SleepWord& word, Env& env) {
  if (word.sleepers.load(std::memory_order_seq_cst) == 0) return false;  // after the bit was set; partner: announce_sleep()'s addition
  word.sequence.fetch_add(1, std::memory_order_seq_cst);
  env.wake(word.sequence, 1);
  return true;
}

}  // namespace

void Doorbell::ring(NodeId source, Env& env) {
  const std::uint64_t bit = std::uint64_t{1} << (source.value % 64);
  std::atomic<std::uint64_t>& word = sources[source.value / 64];
  // Orders the committed record before the look at the bit: if it is still set, the consumer has yet to take it and then sees the record.
  std::atomic_thread_fence(std::memory_order_seq_cst);  // partner: take()'s exchange
  if ((word.load(std::memory_order_relaxed) & bit) == 0)
    word.fetch_or(bit, std::memory_order_seq_cst);  // relaxed: ordered by the fence above
  wake_one(env);
}

void Doorbell::wake_one(Env& env) {
  if (pollers.load(std::memory_order_seq_cst) != 0) return;  // after the bit was set; partner: withdraw_poll()'s subtraction
  if (!wake(application, env)) wake(engine, env);
}

bool Doorbell::any() const {
  std::uint64_t bits = 0;
  for (const auto& word : sources) bits |= word.load(std::memory_order_seq_cst);  // seq_cst: second half of a sleeper's announce-then-look
  return bits != 0;
}

std::uint64_t Doorbell::take(std::uint32_t index) {
  // The cheap look first: an idle poll must not make the line its own.
  if (sources[index].load(std::memory_order_relaxed) == 0) return 0;  // relaxed: a hint; a bit missed now is found by the next poll
  return sources[index].exchange(0, std::memory_order_seq_cst);
}

}  // namespace netvm::nic
