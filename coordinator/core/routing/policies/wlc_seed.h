#pragma once

// Weighted least connections: the fewest requests for a weight that falls with processor, memory
// and latency.

#include <cstdint>

#include "coordinator/core/routing/policies/candidate.h"

namespace shoal::core {

// base * (1 - 0.3 cpu - 0.4 memory - 0.3 latency_ms / 1000), each input cut to [0, 1], and never
// below 0.05 base, so that a slow and busy group keeps a weight that can be divided by.
double WlcWeight(double base, double cpu, double memory, double latency_ms);

uint64_t ChooseByWlc(Candidates candidates);

}  // namespace shoal::core
