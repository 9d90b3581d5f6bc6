#pragma once

// The fewest requests for a weight that the scarcest resource alone decides.

#include <cstdint>
#include <span>

#include "coordinator/core/routing/policies/candidate.h"

namespace shoal::core {

// The least of 1 / (use + 0.1) over all resources, times 100: from 90.909 (one is used up) to 1000
// (none is used). Uses are cut to [0, 1].
double MinresWeight(std::span<const double> uses);

uint64_t ChooseByMinres(Candidates candidates);

}  // namespace shoal::core
