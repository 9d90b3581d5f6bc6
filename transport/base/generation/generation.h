#pragma once

// What a generation asks for and what comes back, in tokens: the words that the coordinator, the
// RPC layer and the workers' engine share.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "transport/base/generation/grammar_source.h"

namespace shoal {

// Bounds of a generation, for every program that speaks of one. Below the least temperature, logits
// divided by it leave binary32.
constexpr double kTemperatureMin = 1e-5;
constexpr double kTemperatureMax = 1e5;
constexpr int32_t kTopLogprobsMax = 20;
constexpr int64_t kStopIdsMax = 1'024;
constexpr int32_t kPriorityMin = -1'000;
constexpr int32_t kPriorityMax = 1'000;
constexpr int64_t kCacheSaltBytesMax = 256;
constexpr double kRepetitionPenaltyMax = 1e5;
constexpr double kCountPenaltyMax = 2;  // Of frequency and presence, either sign.
constexpr float kLogitBiasMax = 100;    // Either sign.
constexpr int64_t kLogitBiasesMax = 1'024;

// Added to one token's logit.
struct LogitBias {
  int32_t token = 0;
  float bias = 0;

  bool operator==(const LogitBias&) const = default;
};

// How the next token is chosen (kernels/ARITHMETIC.md, "Choosing a token").
struct SamplingParams {
  double temperature = 1;  // 0: arg max. Otherwise kTemperatureMin to kTemperatureMax.
  int32_t top_k = 0;       // 0: all.
  double top_p = 1;        // In (0, 1].
  double min_p = 0;        // In [0, 1].
  uint64_t seed = 0;       // Fixed when the request is admitted.
  uint32_t choice = 0;     // Which of a request's parallel answers; part of the noise's counter.
  double typical_p = 1;    // In (0, 1].
  // Above 0, at most kRepetitionPenaltyMax: over prompt and generated tokens. 1: none.
  double repetition_penalty = 1;
  double frequency_penalty = 0;  // Times how often a token was generated; to kCountPenaltyMax.
  double presence_penalty = 0;   // Once it was generated at all; likewise.
  // Each token once, at most kLogitBiasesMax, biases to kLogitBiasMax.
  std::vector<LogitBias> logit_bias{};
  // Until so many tokens are generated, the stop ids are not chosen. At most tokens_max.
  int64_t min_tokens = 0;

  bool operator==(const SamplingParams&) const = default;
};

struct GenerationParams {
  SamplingParams sampling;
  int64_t tokens_max = 16;  // 0 only with prompt_logprobs.
  // Any of them ends the sequence and is delivered as its last token. At most kStopIdsMax.
  std::vector<int32_t> stop_ids;
  bool prompt_logprobs = false;  // Log-probabilities of every prompt token but the first, too.
  int32_t top_logprobs = -1;     // -1: none; otherwise the token's own and this many best.
  int32_t priority = 0;          // Lower ones are served first; kPriorityMin to kPriorityMax.
  // Only requests of the same salt find each other's prefixes in the cache. At most
  // kCacheSaltBytesMax.
  std::string cache_salt{};
  GrammarSource grammar{};  // What the answer must match.

  bool operator==(const GenerationParams&) const = default;
};

// Errors: kInvalidArgument, naming the parameter, its value and its range, if one is out of bounds
// or not a number.
void CheckParams(const GenerationParams& params);

// Errors: kInvalidArgument, naming the first id that must be one of the vocabulary's and is not.
void CheckTokenIds(const GenerationParams& params, int64_t vocab_size);

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
  std::vector<TokenLogprobs> prompt_logprobs;  // Of prompt[1..], each once, before any token.
  int64_t cached_tokens = 0;  // Of the prompt, found in the prefix cache; with the first token.
  FinishReason finish = FinishReason::kNone;
  // For kNumericError: "layer 7, position 12". For kCancelled: why the leader refused the request;
  // empty if it was asked to cancel it.
  std::string detail;
  // Of such a refusal: the leader had no room for one more request, so that another group, or this
  // one another time, would take it. Otherwise no group would.
  bool no_room = false;
  // What came of the sequence before this update: tokens of its answer (those that its request
  // brought along too), and positions of its prompt's log-probabilities.
  int64_t tokens_before = 0;
  int64_t prompt_logprobs_before = 0;
  // Of a stream that ends: how often another group went on with it. A leader leaves it 0.
  int32_t resumes = 0;
  // How often so far its group took its place for another sequence; it is computed again. For the
  // coordinator: clients are not told.
  int32_t preemptions = 0;

  bool operator==(const SequenceUpdate&) const = default;
};

}  // namespace shoal
