#include "transport/base/generation/generation.h"

#include <algorithm>

#include "transport/base/error.h"

// The only place that knows what a generation's parameters may be: gateways, the RPC layer and the
// ranks all ask here, so that none of them takes what another refuses.

namespace shoal {
namespace {

// NaN fails every range.
void CheckRange(std::string_view name, double value, double lowest, double highest) {
  if (value >= lowest && value <= highest) return;
  Throw(ErrorCode::kInvalidArgument, name, " is ", value, ": expected a value from ", lowest,
        " to ", highest);
}

// A value in (0, highest].
void CheckPositive(std::string_view name, double value, double highest) {
  if (value > 0 && value <= highest) return;
  Throw(ErrorCode::kInvalidArgument, name, " is ", value, ": expected a value above 0 and at most ",
        highest);
}

void CheckLogitBias(const std::vector<LogitBias>& biases) {
  if (static_cast<int64_t>(biases.size()) > kLogitBiasesMax) {
    Throw(ErrorCode::kInvalidArgument, "logit_bias has ", biases.size(),
          " tokens: expected at most ", kLogitBiasesMax);
  }
  std::vector<int32_t> tokens;
  for (const LogitBias& entry : biases) {
    CheckRange(Str("logit_bias of token ", entry.token), entry.bias, -kLogitBiasMax, kLogitBiasMax);
    tokens.push_back(entry.token);
  }
  std::sort(tokens.begin(), tokens.end());
  const auto twice = std::adjacent_find(tokens.begin(), tokens.end());
  if (twice != tokens.end()) {
    Throw(ErrorCode::kInvalidArgument, "logit_bias names token ", *twice,
          " twice: expected each token once");
  }
}

}  // namespace

void CheckParams(const GenerationParams& params) {
  const SamplingParams& sampling = params.sampling;
  CheckRange("temperature", sampling.temperature, 0, kTemperatureMax);
  if (sampling.temperature > 0 && sampling.temperature < kTemperatureMin) {
    Throw(ErrorCode::kInvalidArgument, "temperature is ", sampling.temperature,
          ": expected 0 for the most likely token, or at least ", kTemperatureMin);
  }
  CheckRange("top_k", sampling.top_k, 0, INT32_MAX);
  CheckPositive("typical_p", sampling.typical_p, 1);
  CheckPositive("top_p", sampling.top_p, 1);
  CheckRange("min_p", sampling.min_p, 0, 1);
  CheckPositive("repetition_penalty", sampling.repetition_penalty, kRepetitionPenaltyMax);
  CheckRange("frequency_penalty", sampling.frequency_penalty, -kCountPenaltyMax, kCountPenaltyMax);
  CheckRange("presence_penalty", sampling.presence_penalty, -kCountPenaltyMax, kCountPenaltyMax);
  CheckLogitBias(sampling.logit_bias);
  CheckRange("top_logprobs", params.top_logprobs, -1, kTopLogprobsMax);
  if (params.tokens_max < 0 || (params.tokens_max == 0 && !params.prompt_logprobs)) {
    Throw(ErrorCode::kInvalidArgument, "tokens_max is ", params.tokens_max,
          ": expected at least 1, or 0 with the prompt's log-probabilities");
  }
  if (sampling.min_tokens < 0 || sampling.min_tokens > params.tokens_max) {
    Throw(ErrorCode::kInvalidArgument, "min_tokens is ", sampling.min_tokens,
          ": expected a value from 0 to tokens_max, ", params.tokens_max);
  }
  if (params.grammar.kind > GrammarKind::kChoice) {
    Throw(ErrorCode::kInvalidArgument, "the grammar is of kind ",
          static_cast<int>(params.grammar.kind), ": expected one of those of GrammarKind");
  }
  if (params.grammar.text.size() > kGrammarBytesMax) {
    Throw(ErrorCode::kInvalidArgument, "the grammar has ", params.grammar.text.size(),
          " bytes: expected at most ", kGrammarBytesMax);
  }
  if (static_cast<int64_t>(params.stop_ids.size()) > kStopIdsMax) {
    Throw(ErrorCode::kInvalidArgument, "stop_ids are ", params.stop_ids.size(),
          ": expected at most ", kStopIdsMax);
  }
  CheckRange("priority", params.priority, kPriorityMin, kPriorityMax);
  if (static_cast<int64_t>(params.cache_salt.size()) > kCacheSaltBytesMax) {
    Throw(ErrorCode::kInvalidArgument, "cache_salt has ", params.cache_salt.size(),
          " bytes: expected at most ", kCacheSaltBytesMax);
  }
}

void CheckTokenIds(const GenerationParams& params, int64_t vocab_size) {
  for (const LogitBias& entry : params.sampling.logit_bias) {
    if (entry.token >= 0 && entry.token < vocab_size) continue;
    Throw(ErrorCode::kInvalidArgument, "logit_bias names token ", entry.token,
          ": expected an id from 0 to ", vocab_size - 1);
  }
}

std::string_view ToString(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone:
      return "";
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kNumericError:
      return "numeric_error";
  }
  return "unknown";
}

}  // namespace shoal
