// NicProcesses: the nodes of a NicWorld as processes of their own, made by fork(), that map each other's devices as the nodes of a job on one
// host do. The first process is the test's.
#pragma once

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "nic/device.hpp"
#include "nic/nic.hpp"
#include "nic/shm_fabric.hpp"
#include "runtime/host_vm.hpp"
#include "runtime/real_env.hpp"
#include "tests/support/frame_check.hpp"

namespace netvm::test {

/// One node, in its process.
struct ProcessNode {
  RealEnv env{{0, true, 0}};
  Stats stats;
  std::unique_ptr<HostVm> vm;
  std::vector<std::unique_ptr<nic::Device>> devices;
  std::unique_ptr<nic::ShmFabric> fabric;
  std::unique_ptr<nic::Nic> nic;
  std::atomic<bool> stop{false};
  std::thread engine;

  ~ProcessNode() {
    stop.store(true);
    if (nic) (void)nic->close();
    if (engine.joinable()) engine.join();
  }
};

class NicProcesses {
 public:
  static constexpr std::uint64_t kPages = 64;

  /// Memory that all processes share, for what they tell each other: zeros at first.
  struct Board {
    std::atomic<std::uint32_t> phase[16];
    std::atomic<std::uint64_t> words[64];
    std::atomic<std::int32_t> pids[8];
  };
  static constexpr std::uint32_t kNobody = UINT32_MAX;

  /// Runs body(node's number, its ProcessNode, the board) in `nodes` processes, node 0 in this one, with an engine thread each. In a child a
  /// false return is a failure. Returns whether all children ended well; node `victim`: by a SIGKILL of somebody's.
  static bool run(std::uint32_t nodes, ShmMode mode, const std::function<bool(std::uint32_t, ProcessNode&, Board&)>& body,
                  std::uint32_t victim = kNobody) {
    NicProcesses made(nodes, mode);
    const std::uint32_t survivors = victim == kNobody ? nodes : nodes - 1;
    std::vector<pid_t> children;
    for (std::uint32_t node = 1; node < nodes; ++node) {
      const pid_t child = fork();
      if (child == 0) {
        alarm(60);
        made.board_->pids[node].store(getpid());
        bool good = false;
        {
          ProcessNode self;
          made.open(node, &self);
          good = body(node, self, *made.board_);
          made.meet(15, survivors);
        }
        _exit(good ? 0 : 1);
      }
      children.push_back(child);
    }
    bool good = true;
    {
      ProcessNode self;
      made.open(0, &self);
      good = body(0, self, *made.board_);
      made.meet(15, survivors);
    }
    for (std::uint32_t node = 1; node < nodes; ++node) {
      int status = 0;
      waitpid(children[node - 1], &status, 0);
      const bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
      good = good && (node == victim ? killed : WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    return good;
  }

 private:
  NicProcesses(std::uint32_t nodes, ShmMode mode) : nodes_(nodes), mode_(mode) {
    board_ = static_cast<Board*>(mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    for (std::uint32_t i = 0; i < nodes; ++i) {
      frames_.push_back(memfd_create("frames", MFD_CLOEXEC));
      devices_.push_back(memfd_create("device", MFD_CLOEXEC));
    }
  }
  ~NicProcesses() {
    for (const int fd : frames_) close(fd);
    for (const int fd : devices_) close(fd);
    munmap(board_, sizeof(Board));
  }

  /// A barrier of all processes, each number once.
  void meet(std::uint32_t number, std::uint32_t nodes) {
    board_->phase[number].fetch_add(1);
    while (board_->phase[number].load() < nodes) std::this_thread::yield();
  }

  void open(std::uint32_t node, ProcessNode* self) {
    std::string why;
    HostVmConfig memory;
    memory.pages = kPages;
    memory.frames_fd = frames_[node];
    memory.check_frames = frames_are_checked();
    self->vm = HostVm::create(memory, self->env, &why).value();
    nic::DeviceConfig shape;
    shape.nodes = nodes_;
    shape.pages = kPages;
    shape.ring_bytes = nic::shm_ring::kDefaultAreaBytes;
    shape.node = NodeId{node};
    shape.check_frames = frames_are_checked();
    std::unique_ptr<nic::Device> own = nic::Device::create(shape, devices_[node], self->vm->frame_base(), &why).value();
    meet(0, nodes_);
    std::vector<nic::Device*> views;
    for (std::uint32_t i = 0; i < nodes_; ++i) {
      shape.node = NodeId{i};
      self->devices.push_back(i == node ? std::move(own) : nic::Device::attach(shape, NodeId{node}, devices_[i], frames_[i], &why).value());
      views.push_back(self->devices.back().get());
    }
    self->fabric = std::make_unique<nic::ShmFabric>(NodeId{node}, nodes_, self->env, views);
    nic::NicConfig config;
    config.node = NodeId{node};
    config.nodes = nodes_;
    config.mode = mode_;
    self->nic = std::make_unique<nic::Nic>(config, self->env, *self->vm, *self->fabric, *self->devices[node], self->stats);
    self->engine = std::thread([self] {
      while (!self->stop.load()) self->nic->engine_turn(0, kForever);
    });
    meet(1, nodes_);
  }

  std::uint32_t nodes_;
  ShmMode mode_;
  Board* board_;
  std::vector<int> frames_, devices_;
};

}  // namespace netvm::test
