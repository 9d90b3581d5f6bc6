#pragma once

// The fields of a generation's parameters, listed once: what carries them between processes, checks
// their ranges and reads them from JSON visits this list. A new parameter is a field of its struct,
// a line here, a line of generation.capnp, and its use.

#include <concepts>
#include <limits>
#include <string_view>
#include <type_traits>

#include "transport/base/generation/generation.h"

namespace shoal {

struct ParamField {
  std::string_view name;  // In errors and in JSON; on the wire in camelCase.
  // A number is from `lowest`, or above it, to `highest`. Of a text or list, `highest` is the most
  // bytes or elements.
  double lowest = -std::numeric_limits<double>::infinity();
  double highest = std::numeric_limits<double>::infinity();
  bool above_lowest = false;
};

template <typename Params, typename Of>
concept MaybeConst = std::same_as<std::remove_const_t<Params>, Of>;

// Calls visit(const ParamField&, field) for each field, in the struct's order.
template <MaybeConst<SamplingParams> Params, typename Visit>
constexpr void ForEachField(Params& params, Visit&& visit) {
  visit(ParamField{"temperature", 0, kTemperatureMax}, params.temperature);
  visit(ParamField{"top_k", 0, INT32_MAX}, params.top_k);
  visit(ParamField{"top_p", 0, 1, /*above_lowest=*/true}, params.top_p);
  visit(ParamField{"min_p", 0, 1}, params.min_p);
  visit(ParamField{"seed"}, params.seed);
  visit(ParamField{"choice"}, params.choice);
  visit(ParamField{"typical_p", 0, 1, /*above_lowest=*/true}, params.typical_p);
  visit(ParamField{"repetition_penalty", 0, kRepetitionPenaltyMax, /*above_lowest=*/true},
        params.repetition_penalty);
  visit(ParamField{"frequency_penalty", -kCountPenaltyMax, kCountPenaltyMax},
        params.frequency_penalty);
  visit(ParamField{"presence_penalty", -kCountPenaltyMax, kCountPenaltyMax},
        params.presence_penalty);
  visit(ParamField{.name = "logit_bias", .highest = kLogitBiasesMax}, params.logit_bias);
  visit(ParamField{"min_tokens"}, params.min_tokens);  // 0 to tokens_max.
}

// As above; `sampling` is one field, whose own are visited in turn.
template <MaybeConst<GenerationParams> Params, typename Visit>
constexpr void ForEachField(Params& params, Visit&& visit) {
  visit(ParamField{"sampling"}, params.sampling);
  visit(ParamField{"tokens_max"}, params.tokens_max);  // At least 1, or 0 with prompt_logprobs.
  visit(ParamField{.name = "stop_ids", .highest = kStopIdsMax}, params.stop_ids);
  visit(ParamField{"prompt_logprobs"}, params.prompt_logprobs);
  visit(ParamField{"top_logprobs", -1, kTopLogprobsMax}, params.top_logprobs);
  visit(ParamField{"priority", kPriorityMin, kPriorityMax}, params.priority);
  visit(ParamField{.name = "cache_salt", .highest = kCacheSaltBytesMax}, params.cache_salt);
  visit(ParamField{.name = "grammar", .highest = kGrammarBytesMax}, params.grammar);
}

}  // namespace shoal
