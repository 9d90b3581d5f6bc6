#pragma once

// Chooses tokens from logits, and computes log-probabilities, as kernels/ARITHMETIC.md fixes it.
//
// A function of its arguments alone; every sum over the vocabulary is an integer sum.

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kernels/math/choice.h"
#include "transport/base/generation/generation.h"
#include "worker/engine/choice/choice_rules.h"
#include "worker/engine/choice/token_filters.h"

namespace shoal::engine {

// The best token of a range of the vocabulary. Of two, one that is not withheld wins, then the
// higher score, ties to the lower id; so the best of the whole vocabulary is the best of the
// ranges' bests, whatever the cut.
struct Candidate {
  double score = 0;
  int32_t token = -1;  // -1: nothing in the range may be chosen, or a logit is not finite (score is
                       // NaN).
  int32_t withheld = 0;  // 1: only withheld tokens are left in the range.
};

Candidate Better(const Candidate& a, const Candidate& b);

// True if arg max of the (noisy) logits decides alone, so that ranks need not gather all logits:
// no top_k, typical_p, top_p, min_p.
bool ChoosesByMaximum(const SamplingParams& sampling);

// A token and, if asked for, the log-probabilities of its position.
struct Chosen {
  int32_t token = -1;
  TokenLogprobs logprobs;
};

// Threading: one thread per object; it keeps its memory from call to call.
class Sampler {
 public:
  explicit Sampler(const math::ChoiceKernels& kernels) : kernels_(kernels), filters_(kernels) {}

  // The best of tokens first_token + i; ChoosesByMaximum(rules.sampling). The rules are applied to
  // the logits in place.
  Candidate BestOfRange(std::span<float> logits, int32_t first_token, const ChoiceRules& rules);

  // The token chosen from the whole vocabulary; logits as above. With top_count >= 0 also its
  // log-probability and those of the top_count best, of the logits as they came.
  // Result: nothing if a logit is not finite or nothing may be chosen.
  std::optional<Chosen> Choose(std::span<float> logits, const ChoiceRules& rules,
                               int32_t top_count = -1);

  // Log-probability of `token` and the `top_count` best. Result: nothing if a logit is not finite.
  std::optional<TokenLogprobs> ComputeLogprobs(std::span<const float> logits, int32_t token,
                                               int32_t top_count);

  // The most memory that it keeps once it has chosen from a whole vocabulary of this size.
  static constexpr int64_t MemoryBytes(int64_t vocab_size) {
    return 2 * vocab_size * static_cast<int64_t>(sizeof(float)) +
           TokenFilters::MemoryBytes(vocab_size);
  }

 private:
  // What is needed to turn a logit into its log-probability.
  struct Normalizer {
    float maximum;
    double log_sum;
    float operator()(float logit) const {
      return static_cast<float>(double{logit - maximum} - log_sum);
    }
  };

  Normalizer Normalize(std::span<const float> logits, float maximum) const;
  void ListBest(std::span<const float> logits, const Normalizer& normalizer, int32_t top_count,
                TokenLogprobs& logprobs);
  // Over the tokens that are left.
  int32_t ChooseLeft(std::span<const float> logits, float maximum, const ChoiceRules& rules);
  Candidate NoisyMaximum(std::span<const float> logits, int32_t first_token,
                         const ChoiceRules& rules);
  Candidate NoisyMaximumOf(std::span<const int32_t> tokens, std::span<const float> logits,
                           const ChoiceRules& rules);

  const math::ChoiceKernels kernels_;
  TokenFilters filters_;
  std::vector<int32_t> indices_;
  std::vector<uint64_t> orders_;
  std::vector<float> raw_;   // Logits as they came.
  std::vector<float> left_;  // Logits with only some tokens left.
};

}  // namespace shoal::engine
