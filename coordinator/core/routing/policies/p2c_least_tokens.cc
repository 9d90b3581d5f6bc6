#include "coordinator/core/routing/policies/p2c_least_tokens.h"

namespace shoal::core {
namespace {

constexpr size_t kNone = SIZE_MAX;

// In [0, 1), by the upper 53 bits.
double Unit(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }

double Strength(const Candidate& candidate) { return candidate.speed * candidate.share; }

size_t Draw(Candidates candidates, double unit, size_t without) {
  double sum = 0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (i != without) sum += Strength(candidates[i]);
  }
  double left = unit * sum;
  size_t last = 0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (i == without) continue;
    last = i;
    left -= Strength(candidates[i]);
    if (left < 0) break;
  }
  return last;
}

}  // namespace

std::pair<size_t, size_t> DrawTwo(Candidates candidates, const StreamId& stream) {
  const size_t first = Draw(candidates, Unit(stream.high), kNone);
  if (candidates.size() == 1) return {first, first};
  return {first, Draw(candidates, Unit(stream.low), first)};
}

double WorkLoad(const Candidate& candidate, int64_t tokens) {
  return static_cast<double>(candidate.work_tokens + tokens) / candidate.Slots();
}

uint64_t ChooseByP2c(Candidates candidates, int64_t tokens, const StreamId& stream) {
  const auto [first, second] = DrawTwo(candidates, stream);
  const bool second_is_better =
      WorkLoad(candidates[second], tokens) < WorkLoad(candidates[first], tokens);
  return candidates[second_is_better ? second : first].group;
}

}  // namespace shoal::core
