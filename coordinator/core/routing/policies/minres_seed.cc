#include "coordinator/core/routing/policies/minres_seed.h"

#include <algorithm>
#include <array>

namespace shoal::core {
namespace {

double MinresLoad(const Candidate& candidate) {
  const std::array<double, 3> uses = {
      candidate.busy, candidate.memory,
      static_cast<double>(candidate.sequences) / static_cast<double>(candidate.sequences_max)};
  // With the one that it would get, so that of two idle ones that with the larger weight is chosen.
  return static_cast<double>(candidate.sequences + 1) / (MinresWeight(uses) * candidate.Slots());
}

}  // namespace

double MinresWeight(std::span<const double> uses) {
  double most = 0;
  for (const double use : uses) most = std::max(most, CutShare(use));
  return 100 / (most + 0.1);
}

uint64_t ChooseByMinres(Candidates candidates) {
  return std::ranges::min_element(candidates, {}, MinresLoad)->group;
}

}  // namespace shoal::core
