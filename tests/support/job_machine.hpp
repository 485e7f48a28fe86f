// JobMachine: a Machine of real processes, on the public interface alone. Every node of the job makes one and calls the same functions in
// the same order. With a hardware trap, loads and stores are ordinary ones through raw pointers.
#pragma once

#include <memory>

#include "netvm/netvm.hpp"
#include "tests/support/machine.hpp"

namespace netvm::test {

class JobMachine final : public Machine {
 public:
  /// `checked`: the job runs with the checked trap, so that only accessors work.
  JobMachine(Job& job, bool checked) : job_(job), checked_(checked) {}

  [[nodiscard]] std::uint32_t nodes() const override { return static_cast<std::uint32_t>(job_.nodes()); }
  [[nodiscard]] std::uint32_t threads() const override { return static_cast<std::uint32_t>(job_.threads_per_node()); }
  Place allocate(std::uint64_t bytes, const dsm::AllocOptions& options) override;
  void free(Place memory) override;
  std::unique_ptr<Ledger> make_ledger(std::size_t bytes) override;
  Ending run_with(const Program& program, const Program& beside) override;

 private:
  Job& job_;
  bool checked_;
  // Symmetric memory lives as long as the job: ledgers use it again.
  std::byte* ledger_ = nullptr;
  std::size_t ledger_bytes_ = 0;
};

}  // namespace netvm::test
