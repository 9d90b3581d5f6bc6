#pragma once

// The time of day, for what people and other processes are told.

#include <chrono>
#include <cstdint>

namespace shoal {

// Seconds since 1970.
inline int64_t SystemSeconds() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(now).count();
}

}  // namespace shoal
