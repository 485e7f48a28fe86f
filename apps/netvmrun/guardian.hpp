// Guardian: a process of its own that outlives netvmrun only to end what netvmrun could not.
//
// When netvmrun is killed, its children die with it (parent-death signal), but what they had started, such as the program in a wrapper
// script, does not. The guardian then kills every process whose environment names the job's rendezvous, which is random and so
// nobody else's. It sits in a session of its own: the terminal's signals do not reach it.
#pragma once

#include <sys/types.h>

#include <string>

#include "runtime/unique_fd.hpp"

namespace netvm::run {

class Guardian {
 public:
  /// Starts it. Throws std::system_error.
  explicit Guardian(const std::string& rendezvous);
  Guardian(const Guardian&) = delete;
  Guardian& operator=(const Guardian&) = delete;
  ~Guardian() { dismiss(); }

  [[nodiscard]] pid_t pid() const { return pid_; }
  /// All is well: it ends without doing anything. Waits for its end.
  void dismiss();

 private:
  pid_t pid_ = -1;
  UniqueFd line_;  // its closing without a word means that netvmrun is dead
};

}  // namespace netvm::run
