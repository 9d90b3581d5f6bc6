#pragma once

// Chooses tokens from logits, and computes log-probabilities, as kernels/README.md fixes it.
//
// Pure functions over host memory; every sum over the vocabulary is an integer sum.

#include <cstdint>
#include <optional>
#include <span>

#include "transport/base/generation.h"

namespace shoal::engine {

// The best token of a range of the vocabulary. Of two, the higher score wins, ties to the lower id;
// so the best of the whole vocabulary is the best of the ranges' bests, whatever the cut.
struct Candidate {
  double score = 0;
  int32_t token = -1;  // -1: the range is empty, or holds a non-finite logit (score is NaN).
};

// True if arg max of the (noisy) logits decides alone, so that ranks need not gather all logits:
// no top_k, top_p, min_p.
bool ChoosesByMaximum(const SamplingParams& sampling);

// Shape: logits [n], of tokens first_token + i. `position` is the absolute position of the token
// that is chosen.
Candidate BestOfRange(std::span<const float> logits, int32_t first_token,
                      const SamplingParams& sampling, uint32_t position);
Candidate Better(const Candidate& a, const Candidate& b);

// The token chosen from the whole vocabulary. Result: nothing if a logit is not finite.
std::optional<int32_t> ChooseToken(std::span<const float> logits, const SamplingParams& sampling,
                                   uint32_t position);

// Log-probability of `token` and the `top_count` best. Result: nothing if a logit is not finite.
std::optional<TokenLogprobs> ComputeLogprobs(std::span<const float> logits, int32_t token,
                                             int32_t top_count);

}  // namespace shoal::engine
