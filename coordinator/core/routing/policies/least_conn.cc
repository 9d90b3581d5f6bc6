#include "coordinator/core/routing/policies/least_conn.h"

#include <algorithm>

namespace shoal::core {

double LeastConnLoad(const Candidate& candidate) {
  return static_cast<double>(candidate.sequences + 1) / candidate.Slots();
}

uint64_t ChooseByLeastConn(Candidates candidates) {
  return std::ranges::min_element(candidates, {}, LeastConnLoad)->group;
}

}  // namespace shoal::core
