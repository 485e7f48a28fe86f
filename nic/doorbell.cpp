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
  std::atomic_thread_fence(std::memory_order_seq_cst);  // partner: clear(), or the look of who leaves the bit set
  if ((word.load(std::memory_order_relaxed) & bit) == 0)
    word.fetch_or(bit, std::memory_order_seq_cst);  // relaxed: ordered by the fence above
  wake_one(env);
}

void Doorbell::wake_one(Env& env) {
  if (pollers.load(std::memory_order_seq_cst) != 0) return;  // after the bit was set; partner: withdraw_poll()'s subtraction
  if (!wake(application, env)) wake(engine, env);
}

}  // namespace netvm::nic
