// Watchdog: says, once for each wait that lasts too long, who waits for what at which node, since when, who holds it, and whether those waits form a circle.
//
// A node that finds such a wait among its own (waits.hpp) asks all nodes what their threads wait for and hold; with the answers it writes one report. Nodes that
// do not answer within the limit are named.
//
// Invariants
//  1. Nothing here blocks, and nothing waits for it: it looks on. Off, it costs nothing.
//  2. A wait is reported once, by its own node; what is new since is reported at the next look.
// Threads: any; it looks from timers (Env::at), on_message comes from the NIC.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "nic/nic.hpp"
#include "sync/waits.hpp"

namespace netvm::sync {

/// What a thread does, as a node tells it.
struct Standing {
  NodeId node{};
  bool holds = false;  ///< else it waits. With who == Held::kState: says how the object stands
  std::string what;    ///< of a wait
  SyncId object;
  std::uint64_t who = 0;
  Nanos age = 0;              ///< of a wait
  std::uint64_t value = 0;    ///< as in Wait, Held
  std::uint64_t awaited = 0;  ///< as in Wait, Held
};

[[nodiscard]] Bytes encode_standings(std::uint64_t question, std::span<const Standing> standings);
/// Nothing if the body is no answer. `from` becomes their node.
[[nodiscard]] std::optional<std::pair<std::uint64_t, std::vector<Standing>>> decode_standings(NodeId from, std::span<const std::byte> body);

/// The report's lines: the waits of `node` that are older than `limit`, who holds what they are for, and circles that they are part of.
[[nodiscard]] std::vector<std::string> describe_waits(NodeId node, std::span<const Standing> standings, Nanos limit,
                                                      const std::function<std::string(SyncId)>& name);

class Watchdog final : public nic::MessageHandler {
 public:
  struct Options {
    Nanos limit = 0;  ///< 0: off; it still answers others
    std::function<std::vector<Held>()> held = {};
    std::function<std::string(SyncId)> name = {};                      ///< of an object, for a person; empty: its offset
    std::function<void(const std::vector<std::string>&)> report = {};  ///< takes the lines; empty: they go to the log
  };
  Watchdog(Options options, nic::Nic& nic, Waits& waits);
  ~Watchdog() override;

  void on_message(NodeId from, std::span<const std::byte> body) noexcept override;

 private:
  struct Lifeline;
  void look_later();
  void look();
  // Of this node's threads: for synchronisation objects, for the NIC's event counters, and for answers to what it has posted.
  std::vector<Wait> own_waits() const;
  std::vector<Standing> own_standings() const;
  // Writes the report of what has been collected.
  void write(std::vector<Standing> standings, std::uint32_t missing);

  Options options_;
  nic::Nic& nic_;
  Waits& waits_;
  std::shared_ptr<Lifeline> lifeline_;
  SpinLock lock_;
  std::set<std::pair<std::uint64_t, Nanos>> reported_;  // (who, since); under lock_, and all below
  std::uint64_t question_ = 0;
  std::uint32_t awaited_ = 0;  // answers
  std::vector<Standing> answers_;
};

}  // namespace netvm::sync
