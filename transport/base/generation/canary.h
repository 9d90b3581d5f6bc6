#pragma once

// What a canary asks of a group of ranks, and what its answer comes to: the same for the
// coordinator, which sends it, and for `shoal verify`, which writes down what it must come to.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "transport/base/generation/generation.h"
#include "transport/base/generation/sequence_request.h"

namespace shoal {

// Ids that any vocabulary has.
inline constexpr int32_t kCanaryPrompt[] = {1, 2, 3};

// It asks for two tokens, so that both a prompt and a single token are computed with, and at each
// position for the log-probability of the token that stands there and of the most likely ones. A
// log softmax depends on every logit. `prompt` and answer are cut to fit a toy vocabulary, and
// sequences of at most `tokens_max` tokens. Result: has no id.
SequenceRequest MakeCanary(std::vector<int32_t> prompt, int32_t vocab_size, int64_t tokens_max);

// XXH3-128, as 32 hex digits, of all bits of an answer: the log-probabilities of the prompt and
// then of the answer, and the answer's tokens.
std::string CanaryDigest(std::span<const TokenLogprobs> logprobs, std::span<const int32_t> tokens);

}  // namespace shoal
