// The part of Linux's userfaultfd interface that the host VM uses, including what older headers lack.
#pragma once

#include <linux/userfaultfd.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "runtime/unique_fd.hpp"

namespace netvm {

/// UFFDIO_CONTINUE_MODE_WP: maps the page write-protected in one step. Linux 6.4; the headers of Debian 12 (6.1) do not know it.
inline constexpr std::uint64_t kContinueWriteProtected = std::uint64_t{1} << 1;

/// What the trap of the application view needs.
inline constexpr std::uint64_t kTrapFeatures =
    UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
inline constexpr std::uint64_t kTrapModes = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR | UFFDIO_REGISTER_MODE_WP;

/// Opens a userfaultfd that needs no privilege and reports by SIGBUS. Empty on failure, with a sentence in *why.
UniqueFd open_sigbus_userfaultfd(std::uint64_t features, std::string* why);

/// Lets the userfaultfd watch such faults (UFFDIO_REGISTER_MODE_*) of a shared memfd mapping. False with a sentence in *why.
bool register_with_userfaultfd(int fd, std::byte* base, std::uint64_t bytes, std::uint64_t modes, std::string* why);

}  // namespace netvm
