// Finding the program to run, as a shell does, before anything is started.
#pragma once

#include <string>

namespace netvm::run {

struct ProgramPath {
  std::string path;     ///< what to execute; empty if there is nothing
  int exit_status = 0;  ///< then: 127 not found, 126 not executable
  std::string error;    ///< and why, with advice
};

/// A name with a '/' is a path; another is looked up in PATH, then beside netvmrun itself (tools installed together find each other).
[[nodiscard]] ProgramPath find_program(const std::string& name);

/// Whether the file is a program that creates threads: one that somebody may have meant to spread over nodes. False if that cannot be read.
[[nodiscard]] bool creates_threads(const std::string& path);

}  // namespace netvm::run
