#pragma once

// The rules that the choice of one token follows besides its logits, and those of them that change
// logits: penalties, bias and masks.

#include <cstdint>
#include <span>

#include "transport/base/generation/generation.h"
#include "worker/engine/choice/token_history.h"

namespace shoal::engine {

struct ChoiceRules {
  const SamplingParams& sampling;
  // Absolute position of the token that is chosen.
  uint32_t position = 0;
  // The sequence up to that token. Needed if HasPenalties(sampling), otherwise null.
  const TokenHistory* history = nullptr;
  // Not to be chosen while anything else is left: the stop ids before min_tokens.
  std::span<const int32_t> withheld = {};
  // Bit t % 64 of word t / 64: token t may be chosen; over the whole vocabulary, with at least one
  // bit set. Empty: every token may.
  std::span<const uint64_t> allowed = {};

  // Whether EditLogits changes anything.
  bool edits() const {
    return history != nullptr || !sampling.logit_bias.empty() || !withheld.empty() ||
           !allowed.empty();
  }
};

bool HasPenalties(const SamplingParams& sampling);

// What is left of a range of the vocabulary.
enum class RangeLeft : uint8_t { kTokens, kOnlyWithheld, kNothing };

// Applies penalties, logit_bias, min_tokens and grammar, in this order, to the logits of tokens
// first_token + i. Tokens that must not be chosen become -infinity; the withheld ones only if the
// range has others left. Logits must be finite; what is left stays so.
RangeLeft EditLogits(std::span<float> logits, int32_t first_token, const ChoiceRules& rules);

}  // namespace shoal::engine
