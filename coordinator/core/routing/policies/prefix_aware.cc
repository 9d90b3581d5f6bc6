#include "coordinator/core/routing/policies/prefix_aware.h"

#include <algorithm>

#include "coordinator/core/routing/policies/p2c_least_tokens.h"

namespace shoal::core {

double PrefixCost(const Candidate& candidate, int64_t tokens) {
  return WorkLoad(candidate, tokens - candidate.cached_tokens);
}

uint64_t ChooseByPrefix(Candidates candidates, int64_t tokens) {
  return std::ranges::min_element(
             candidates, {},
             [&](const Candidate& candidate) { return PrefixCost(candidate, tokens); })
      ->group;
}

}  // namespace shoal::core
