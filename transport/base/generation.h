#pragma once

// What a generation asks for and what comes back, in tokens: the words that the coordinator, the
// RPC layer and the workers' engine share.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace shoal {

// How the next token is chosen (kernels/README.md, "Choosing a token").
struct SamplingParams {
  double temperature = 1;  // 0: arg max. Otherwise at least 1e-5.
  int32_t top_k = 0;       // 0: all.
  double top_p = 1;        // In (0, 1].
  double min_p = 0;        // In [0, 1].
  uint64_t seed = 0;       // Fixed when the request is admitted.
  uint32_t choice = 0;     // Which of a request's parallel answers; part of the noise's counter.

  bool operator==(const SamplingParams&) const = default;
};

struct GenerationParams {
  SamplingParams sampling;
  int64_t tokens_max = 16;  // 0 only with prompt_logprobs.
  std::vector<int32_t>
      stop_ids;  // Any of them ends the sequence and is delivered as its last token.
  bool prompt_logprobs = false;  // Log-probabilities of every prompt token but the first, too.
  int32_t top_logprobs = -1;     // -1: none; otherwise the token's own and this many best, 0..20.

  bool operator==(const GenerationParams&) const = default;
};

// Log softmax of the raw logits at one position.
struct TokenLogprobs {
  float logprob = 0;                           // Of the token itself.
  std::vector<std::pair<int32_t, float>> top;  // Descending, ties to the lower id.

  bool operator==(const TokenLogprobs&) const = default;
};

enum class FinishReason : uint8_t { kNone, kStop, kLength, kCancelled, kNumericError };

// "", "stop", "length", "cancelled", "numeric_error".
std::string_view ToString(FinishReason reason);

// What happened to one sequence since the last update: zero or more tokens, then perhaps its end.
struct SequenceUpdate {
  uint64_t id = 0;
  std::vector<int32_t> tokens;
  std::vector<TokenLogprobs> logprobs;         // As long as tokens if asked for, else empty.
  std::vector<TokenLogprobs> prompt_logprobs;  // Of prompt[1..], once, with the first update.
  FinishReason finish = FinishReason::kNone;
  std::string detail;  // For kNumericError: "layer 7, position 12".
};

}  // namespace shoal
