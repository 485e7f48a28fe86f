// Which sanitizer this translation unit is built with: NETVM_ASAN (address) and NETVM_TSAN (thread) are 0 or 1. gcc and clang
// say so in different ways.
#pragma once

#if defined(__has_feature)
#define NETVM_HAS_FEATURE(feature) __has_feature(feature)
#else
#define NETVM_HAS_FEATURE(feature) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || NETVM_HAS_FEATURE(address_sanitizer)
#define NETVM_ASAN 1
#else
#define NETVM_ASAN 0
#endif

#if defined(__SANITIZE_THREAD__) || NETVM_HAS_FEATURE(thread_sanitizer)
#define NETVM_TSAN 1
#else
#define NETVM_TSAN 0
#endif
