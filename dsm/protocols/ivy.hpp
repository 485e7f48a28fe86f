// Ivy: what sc-fixed and sc-dynamic share, which is all but how a request finds a page's owner (Li, Hudak: Memory Coherence in Shared Virtual
// Memory Systems, TOCS 1989, section 3: single writer, write-invalidate, the owner keeps the copyset). See ivy.cpp, docs/protocols/sc-fixed.md.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "dsm/node_set.hpp"
#include "dsm/protocol.hpp"
#include "dsm/protocol_env.hpp"
#include "dsm/protocols/sc_shared.hpp"

namespace netvm::dsm {

class Ivy : public Protocol {
 public:
  explicit Ivy(ProtocolEnv& env);
  ~Ivy() override;

  void on_read_fault(PageId page) override { acquire(page, false); }
  void on_write_fault(PageId page) override { acquire(page, true); }
  void on_read_ahead(std::span<const PageId> units) override;
  [[nodiscard]] bool reads_ahead() const override { return true; }
  Departure on_evict(PageId page) override;
  void on_message(NodeId from, std::span<const std::byte> body) override;
  void on_detach(PageRange pages) override;

 protected:
  struct Request {
    NodeId node{};
    bool exclusive = false;
    bool has_copy = false;
    std::uint16_t hops = 0;
  };

  // How a request finds the owner.
  /// Whether this node follows where the ownership goes. Others ask the page's home, and take every request that they get.
  [[nodiscard]] virtual bool follows_owner(NodeId home) const = 0;
  /// Whether to believe a node that shows itself as the owner: it granted a read, it invalidated.
  [[nodiscard]] virtual bool learns_owner() const = 0;
  /// A read that was passed on that often is told to ask for the ownership instead.
  [[nodiscard]] virtual std::uint32_t most_hops() const { return env_.nodes(); }

  // The decisions that hold everything together; the tests replace them to prove that they notice.
  /// Takes rights away from this node's application.
  virtual void lower_access(std::span<const PageId> units, Access to) { env_.set_access(units, to); }
  /// Whether a grant to write must bring the bytes: `has_copy` is what the requester believes, `listed` what the owner knows.
  [[nodiscard]] virtual bool needs_data(bool has_copy, bool listed) const { return !(has_copy && listed); }
  /// Whether this node may answer requests now. (The argument is for those who replace it.)
  [[nodiscard]] virtual bool may_serve(const Request& /*request*/, bool owner, bool in_transit) const { return owner && !in_transit; }
  /// Whether a node that does not own the page passes a request on.
  [[nodiscard]] virtual bool passes_on(const Request& /*request*/) const { return true; }
  [[nodiscard]] ProtocolEnv& env() const { return env_; }

 private:
  struct Record;
  using Grants = sc::Outbox;

  // the faulting thread
  void acquire(PageId page, bool write);
  bool acquire_as_owner(PageId page, PageEntry& entry, Record& record, bool write);
  void ask(PageId page, PageEntry& entry, Record& record, bool write, sc::Outbox* together = nullptr);
  void await_grant(PageId page, const char* what, NodeId source = sc::kNobody);
  /// Of a page that has been granted to a thread of this node, which asks.
  [[nodiscard]] NodeId granter_of(PageId page);
  void install(std::span<const PageId> run);

  // messages
  void on_run(NodeId from, const sc::Message& run);
  void on_one(NodeId from, const sc::Message& message, std::span<const std::byte> more, Grants& grants);

  // requests
  void on_request(PageId page, PageEntry& entry, const Request& request, Grants& grants);
  void pass_on(PageId page, const Request& request, NodeId to);
  void settle(PageId page, PageEntry& entry, Record& record, Grants& grants);
  void give_up_copy(PageId page, PageEntry& entry, Record& record);
  bool kept(PageId page, const sc::Copy& copy, Record& record);
  void share(PageId page, PageEntry& entry, Record& record, const Request& request, Grants& grants);
  void hand_over(PageId page, PageEntry& entry, Record& record, const Request& request, Grants& grants);
  void lose(PageId page, PageEntry& entry, Access to);

  // answers
  void on_grant(PageId page, PageEntry& entry, NodeId from, const sc::Message& message, std::span<const std::byte> more);
  void on_chased(PageId page, PageEntry& entry);
  void on_invalidate(PageId page, PageEntry& entry, NodeId from, Grants& grants);
  void on_invalidated(PageId page, PageEntry& entry, NodeId from);
  void invalidate_copies(PageId page, PageEntry& entry, Record& record);

  Record& record_of(PageId page, PageEntry& entry);
  void send(NodeId to, sc::Kind kind, PageId page, std::uint8_t flags = 0, std::uint16_t hops = 0, NodeId node = {});
  void let_go_on(PageId page, PageEntry& entry);
  [[nodiscard]] const char* name() const { return traits().name.data(); }
  [[nodiscard]] WaitWord& word_of(PageId page) { return words_[page.value % words_.size()]; }

  ProtocolEnv& env_;
  std::array<WaitWord, 64> words_;  // where faulting threads wait for their grant
  RecordPool<Record> records_;
};

}  // namespace netvm::dsm
