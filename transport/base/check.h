#pragma once

// Assertions about this process's own code, and the string building that messages share.

#include <sstream>
#include <string>

namespace shoal {

// The arguments streamed one after the other.
template <typename... Args>
std::string Str(const Args&... args) {
  std::ostringstream out;
  static_cast<void>((out << ... << args));
  return out.str();
}

// Prints the failed condition with its context and aborts.
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition,
                              const std::string& context);

}  // namespace shoal

// Aborts if `condition` is false, in every build type. For what only a bug in this process can make
// false; bad input and lost peers are Errors (error.h). The other arguments are context, evaluated
// only on failure: SHOAL_CHECK(slot < slots_.size(), "slot ", slot, " of ", slots_.size()).
#define SHOAL_CHECK(condition, ...) \
  (static_cast<bool>(condition)     \
       ? static_cast<void>(0)       \
       : ::shoal::CheckFailed(__FILE__, __LINE__, #condition, ::shoal::Str(__VA_ARGS__)))
