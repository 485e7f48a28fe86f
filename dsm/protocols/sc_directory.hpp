// sc-directory: sequentially consistent. One writer or many readers per page; the page's home keeps a directory of them and invalidates
// before it grants (MESI with a directory as in DASH, Lenoski et al. 1990). See sc_directory.cpp and docs/protocols/sc-directory.md.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <span>

#include "dsm/protocol.hpp"
#include "dsm/protocol_env.hpp"
#include "dsm/protocols/sc_shared.hpp"

namespace netvm::dsm {

class ScDirectory : public Protocol {
 public:
  explicit ScDirectory(ProtocolEnv& env);
  ~ScDirectory() override;

  // Nothing travels with locks and barriers: what was written is visible already.
  static constexpr Traits kTraits{
      "sc-directory", Consistency::sequential,
      "sequentially consistent: one writer or many readers a page, a directory at its home; racy programs work"};
  [[nodiscard]] Traits traits() const override { return kTraits; }
  static std::unique_ptr<Protocol> make(ProtocolEnv& env) { return std::make_unique<ScDirectory>(env); }

  void on_read_fault(PageId page) override { acquire(page, false); }
  void on_write_fault(PageId page) override { acquire(page, true); }
  void on_read_ahead(std::span<const PageId> units) override;
  [[nodiscard]] bool reads_ahead() const override { return true; }
  Departure on_evict(PageId page) override;
  void on_message(NodeId from, std::span<const std::byte> body) override;

  void on_detach(PageRange pages) override;

 protected:
  // The decisions that hold everything together; the tests replace them to prove that they notice.
  /// Takes rights away from this node's application.
  virtual void lower_access(std::span<const PageId> units, Access to) { env_.set_access(units, to); }
  /// Whether a grant to write must bring the bytes: `has_copy` is what the requester believes, `listed` what the directory knows.
  [[nodiscard]] virtual bool needs_data(bool has_copy, bool listed) const { return !(has_copy && listed); }
  /// Whether the copy of an owner that is recalled differs from the home's.
  [[nodiscard]] virtual bool is_dirty(sc::Phase phase) const { return phase == sc::Phase::M; }
  [[nodiscard]] ProtocolEnv& env() const { return env_; }

 private:
  struct Request {
    NodeId node{};
    bool exclusive = false;
    bool has_copy = false;
  };
  struct Directory;

  void acquire(PageId page, bool write);
  bool grant_at_home(PageId page, PageEntry& entry, bool write);
  void install(PageId page, PageEntry& entry, bool write, NodeId home);
  void install_run(std::span<const PageId> run, NodeId home);
  std::uint64_t settle_right(PageEntry& entry, bool write);

  void on_run(NodeId from, const sc::Message& run);
  [[nodiscard]] bool on_one(NodeId from, const sc::Message& message, sc::Outbox* grants);
  void share_together(const sc::Message& run);

  Directory& directory(PageEntry& entry);
  void serve_next(PageId page, PageEntry& entry, Directory& dir, sc::Outbox* grants = nullptr);
  void ask(NodeId node, PageId page, PageEntry& entry, Directory& dir, sc::Kind kind);
  void on_collected(PageId page, PageEntry& entry, std::uint64_t transaction);
  void grant(PageId page, PageEntry& entry, Directory& dir, sc::Outbox* grants = nullptr);
  void on_grant(PageId page, PageEntry& entry, const sc::Message& message);
  void on_confirm(PageId page, PageEntry& entry, std::uint64_t transaction);

  bool revoke(PageId page, PageEntry& entry, const sc::Message& message);
  void write_back(PageId page, std::uint64_t transaction);
  bool defer(const sc::Copy& copy, const sc::Message& message);

  void send(NodeId to, const sc::Message& message);
  [[nodiscard]] WaitWord& word_of(PageId page) { return words_[page.value % words_.size()]; }

  ProtocolEnv& env_;
  std::array<WaitWord, 64> words_;  // where faulting threads wait for their grant
  std::atomic<std::uint64_t> transactions_{0};
  RecordPool<Directory> directories_;  // of pages homed here
};

}  // namespace netvm::dsm
