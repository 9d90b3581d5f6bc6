#pragma once

// What is predicted of a request's wait.

#include <cstdint>

#include "transport/base/clock.h"

namespace shoal::core {

struct WaitAnswer {
  TimeNs first_token = 0;  // From its coming to its first token.
  // What the first is made of.
  TimeNs laid_out = 0;  // Before what was learned from earlier waits.
  bool queued = false;  // It has to wait for a place.

  // Rounded up.
  int64_t first_token_ms() const { return (first_token + kMillisecondNs - 1) / kMillisecondNs; }
};

}  // namespace shoal::core
