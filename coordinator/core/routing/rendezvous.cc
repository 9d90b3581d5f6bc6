#include "coordinator/core/routing/rendezvous.h"

#include <xxhash.h>

#include <cmath>

namespace shoal::core {
namespace {

constexpr double kBound = 1.25;
constexpr int64_t kFreePart = 4;

}  // namespace

uint64_t RendezvousWeight(std::string_view session, uint64_t group) {
  return XXH3_64bits_withSeed(session.data(), session.size(), group);
}

bool IsWithinBound(const Candidate& candidate, int64_t sequences, int64_t sequences_max) {
  if ((candidate.sequences + 1) * kFreePart <= candidate.sequences_max) return true;
  const double fair = static_cast<double>(sequences + 1) *
                      static_cast<double>(candidate.sequences_max) /
                      static_cast<double>(sequences_max);
  return static_cast<double>(candidate.sequences + 1) <= std::ceil(kBound * candidate.share * fair);
}

std::optional<uint64_t> ChooseBySession(Candidates candidates, std::string_view session,
                                        int64_t sequences, int64_t sequences_max) {
  std::optional<uint64_t> best;
  uint64_t best_weight = 0;
  for (const Candidate& candidate : candidates) {
    if (!IsWithinBound(candidate, sequences, sequences_max)) continue;
    const uint64_t weight = RendezvousWeight(session, candidate.group);
    if (best && weight <= best_weight) continue;
    best = candidate.group;
    best_weight = weight;
  }
  return best;
}

}  // namespace shoal::core
