// Pthreads: the threads of an unchanged pthreads program, spread over the nodes.
//
// The program begins on node 0 before its constructors do (start_object.cpp); the other nodes serve requests until it ends: start a thread, end. Any thread
// of any node may create threads. A request is a record in shared memory that is put into a node's mailbox: a list under a mutex, and a
// semaphore on which the node's server sleeps. So what the creator wrote is there for the new thread under every protocol, and nobody polls.
//
// Invariants
//  1. A pthread_t of a program's thread is the address of its ThreadRecord: the same on all nodes, and never that of a thread of NetVM's.
//  2. A record lives until its thread has ended and was joined or detached; then whoever learns it last frees it.
//  3. A thread's end: destructors of C++ thread_local objects, then of the program's keys, then the record says so. Always on its private stack.
//  4. The job ends once: with main()'s return, or at the first exit() of any thread, on node 0.
#pragma once

#include <pthread.h>

#include <csignal>
#include <cstdint>
#include <ctime>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "apps/kit/kit.hpp"
#include "apps/kit/process_state.hpp"
#include "sync/objects.hpp"
#include "sync/waits.hpp"

namespace netvm::kit {

/// How a request to another node (the start of a thread, a change of the process) went, for who asked and waits for it: the record may be gone by then. In
/// shared memory, on a page of its own that stays with who asks unless there is an error. Used again and again.
struct RequestAnswer {
  std::int32_t error = 0;
  std::uint64_t given = 0;  // names the semaphore that says that it is there
};

/// In shared memory. Words whose address names a mutex or a flag are never touched.
struct ThreadRecord {
  static constexpr std::uint64_t kMagic = 0x4e65'7456'4d54'6864;
  enum class What : std::uint32_t { thread, change, exit, end };
  std::uint64_t magic = kMagic;
  What what = What::thread;
  std::int32_t status = 0;  // exit
  RequestAnswer* answer = nullptr;
  void* (*function)(void*) = nullptr;
  void* argument = nullptr;
  void* result = nullptr;
  ThreadRecord* next = nullptr;  // in a mailbox
  std::uint64_t stack_bytes = 0;
  std::uint64_t real = 0;   // its pthread_t on its node
  std::uint64_t guard = 0;  // names the mutex of the following two
  std::uint32_t detached = 0;
  std::uint32_t ended = 0;
  std::uint64_t end_flag = 0;  // names the flag that is set at its end
  std::int32_t number = 0;
  std::int32_t node = 0;
  sigset_t blocked{};  // its creator's signal mask
};

class Pthreads {
 public:
  /// Null in programs of another kind, and before the start.
  static Pthreads* find();
  /// Joins the job. On node 0 the calling thread is the program's main thread from now on; on others it serves and does not return.
  static void start(const Program& program, int argc, char** argv, char** envp);
  /// On node 0: main() on a shared stack, and the end.
  [[noreturn]] static void run_main(int argc, char** argv, char** envp);

  // ---- for the calls of the program: on its stack ------------------------------------------------------------------------------
  /// Which node a thread goes to: as the placement says for the next one, for that of a number, or to this node whatever it says.
  struct Where {
    bool here = false;
    std::optional<std::uint64_t> number{};
  };
  int create(pthread_t* thread, const pthread_attr_t* attributes, void* (*function)(void*), void* argument, const Where& where);
  int join(pthread_t thread, void** result, const timespec* until, clockid_t clock, bool waits);
  int detach(pthread_t thread);
  [[noreturn]] void exit_thread(void* result);
  /// Null: a thread that is none of the program's.
  static ThreadRecord* record_of(pthread_t thread);
  /// The pthread_t for the C library; 0: it is on another node.
  static pthread_t local(pthread_t thread);
  /// exit() of the calling thread got to its last handler.
  [[noreturn]] void end_job(int status);

  /// here(); if it returns true, all other nodes apply the change, one after the other. One change at a time in the job. in_runtime().
  void change_all(ProcessChange* change, const std::function<bool()>& here);

  // ---- synchronisation objects: in_runtime() ---------------------------------------------------------------------------------
  [[nodiscard]] sync::Sync& sync() { return *kit_.runtime().sync; }
  [[nodiscard]] sync::Objects& objects() { return sync().objects(); }
  [[nodiscard]] Kit& kit() { return kit_; }
  /// What names an object at that address; nothing: the memory is private. Any stack.
  [[nodiscard]] std::optional<std::uint64_t> key_of(const volatile void* object) const;
  /// When a clock shows that time, in NetVM's. Nothing: it is no time.
  [[nodiscard]] std::optional<Nanos> deadline_of(clockid_t clock, const timespec* time) const;

 private:
  struct Control;
  struct Mailbox;
  friend class Keys;
  Pthreads(Kit& kit, int argc, char** argv);
  void open();
  void serve();
  ThreadRecord* take_request();
  /// For the watchdog: what the calling thread waits for by means of the object that the word names. Empty: nobody needs to know.
  [[nodiscard]] sync::Wait wait_for(const char* what, const std::uint64_t* word) const;
  void post(int node, ThreadRecord* record);
  int start_here(ThreadRecord* record);
  /// Posts the request and waits until that node has carried it out. Returns its error, 0 if none.
  int ask(int node, ThreadRecord* record);
  int choose_node(ThreadRecord* record, const Where& where);
  void thread_is_over(int node);
  static void* thread_body(void* birth);
  static void end_of_thread(void* self);
  void release_record(ThreadRecord* record);
  void copy_arguments(int argc, char** argv);
  static void on_exit(int status, void* self);

  Kit& kit_;
  Control* control_ = nullptr;
  Mailbox* mailboxes_ = nullptr;
  ThreadRecord* main_record_ = nullptr;
  std::mutex answers_mutex_;
  std::vector<RequestAnswer*> answers_;  // that no thread of this node waits for
  int argc_ = 0;
  char** argv_ = nullptr;
};

/// Ends the job: "netvm: pthread_mutex_unlock() by thread 2 on node 1: <text>".
[[noreturn]] void misuse(const char* call, const std::string& text);

/// The errno of a status of sync/. Those that mean the job's end do not return.
int error_of(Status status, const char* call);

}  // namespace netvm::kit
