#pragma once

// Dividing a row of things among ranks: the arithmetic under PlanCut.

#include <cstdint>
#include <span>
#include <vector>

#include "parallel/plan/plan.h"

namespace shoal::plan {

// Contiguous ranges that tile [0, unit_count), sizes in proportion to `speeds`, at least one unit
// each; what rounding leaves goes to the rank farthest below its share, the earlier one if equal.
// Needs unit_count >= speeds.size() >= 1.
std::vector<Range> DealUnits(int64_t unit_count, std::span<const double> speeds);

// What DealLayers balances. Bytes.
struct LayerLoads {
  std::vector<int64_t> layers;
  int64_t first_stage = 0;  // Beside its layers: the embedding.
  int64_t last_stage = 0;   // The output norm and head.
};

// Contiguous ranges of layers, at least one per stage, that make the largest bytes / speed of a
// stage as small as possible, then the sum of squares; of equal ones, the one with more layers
// early. Needs as many layers as speeds, at least one of each. Cost: O(stages * layers^2).
std::vector<Range> DealLayers(const LayerLoads& loads, std::span<const double> speeds);

}  // namespace shoal::plan
