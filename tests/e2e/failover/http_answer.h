#pragma once

// One request over HTTP, and its answer put together from whatever pieces it came in.

#include <cstdint>

#include "tests/e2e/failover/asks.h"

namespace shoal::test {

// A stream that brings nothing for so long, or cannot be taken up again in that time, is lost.
constexpr int64_t kSilenceMs = 120'000;
constexpr int kRetryMs = 20;  // Before asking again.

// Asks again with its cursor if the connection of a resumable stream breaks.
Answer GetOverHttp(uint16_t port, const Ask& ask);

}  // namespace shoal::test
