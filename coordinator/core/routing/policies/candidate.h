#pragma once

// A group that has room for a request, with what policies choose by.

#include <cstdint>
#include <span>

namespace shoal::core {

// Plain data.
struct Candidate {
  uint64_t group = 0;
  int64_t sequences = 0;      // That it was given and that have not ended.
  int64_t sequences_max = 1;  // That its steps hold.
  int64_t work_tokens = 0;    // That these may still cost.
  int64_t cached_tokens = 0;  // Of the request's prompt: expected in its cache.
  double speed = 1;           // Against the others of its key: how much it gets done in a while.
  double share = 1;           // In (0, 1]: of its usual load, while it comes back.
  double busy = 0;            // Share of its time.
  double memory = 0;          // Share of its KV cache that is in use.
  double latency_ms = 0;      // Of a token; 0: unknown.

  // What a policy divides loads by. Not by the speed: who is faster has less left at any moment,
  // and so gets more; to count that twice would fill the fast ones before the others are half full.
  double Slots() const { return static_cast<double>(sequences_max) * share; }
};

// To [0, 1]; not a number is taken for the worst, 1.
constexpr double CutShare(double share) {
  if (share < 0) return 0;
  return share <= 1 ? share : 1;
}

// Never empty, in the order of group numbers. Ties go to the first.
using Candidates = std::span<const Candidate>;

}  // namespace shoal::core
