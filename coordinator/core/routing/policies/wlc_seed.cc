#include "coordinator/core/routing/policies/wlc_seed.h"

#include <algorithm>

namespace shoal::core {
namespace {

constexpr double kFloor = 0.05;

double WlcLoad(const Candidate& candidate) {
  return static_cast<double>(candidate.sequences) /
         WlcWeight(candidate.Slots(), candidate.busy, candidate.memory, candidate.latency_ms);
}

}  // namespace

double WlcWeight(double base, double cpu, double memory, double latency_ms) {
  const double factor =
      1 - 0.3 * CutShare(cpu) - 0.4 * CutShare(memory) - 0.3 * CutShare(latency_ms / 1'000);
  return base * std::max(factor, kFloor);
}

uint64_t ChooseByWlc(Candidates candidates) {
  return std::ranges::min_element(candidates, {}, WlcLoad)->group;
}

}  // namespace shoal::core
