#include "transport/base/generation/generation.h"

#include <algorithm>

#include "transport/base/error.h"
#include "transport/base/generation/fields.h"

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

// Each field by itself.
struct FieldCheck {
  template <typename Number>
  requires std::is_arithmetic_v<Number>
  void operator()(const ParamField& field, Number number) const {
    const auto value = static_cast<double>(number);
    if (!field.above_lowest) return CheckRange(field.name, value, field.lowest, field.highest);
    if (value > field.lowest && value <= field.highest) return;
    Throw(ErrorCode::kInvalidArgument, field.name, " is ", value, ": expected a value above ",
          field.lowest, " and at most ", field.highest);
  }
  void operator()(const ParamField& field, const std::string& text) const {
    CheckSize(field, text.size(), "bytes");
  }
  void operator()(const ParamField& field, const std::vector<int32_t>& tokens) const {
    CheckSize(field, tokens.size(), "tokens");
  }
  void operator()(const ParamField& field, const std::vector<LogitBias>& biases) const {
    CheckSize(field, biases.size(), "tokens");
    std::vector<int32_t> tokens;
    for (const LogitBias& entry : biases) {
      CheckRange(Str(field.name, " of token ", entry.token), entry.bias, -kLogitBiasMax,
                 kLogitBiasMax);
      tokens.push_back(entry.token);
    }
    std::sort(tokens.begin(), tokens.end());
    const auto twice = std::adjacent_find(tokens.begin(), tokens.end());
    if (twice == tokens.end()) return;
    Throw(ErrorCode::kInvalidArgument, field.name, " names token ", *twice,
          " twice: expected each token once");
  }
  void operator()(const ParamField& field, const GrammarSource& grammar) const {
    if (grammar.kind > GrammarKind::kParts) {
      Throw(ErrorCode::kInvalidArgument, field.name, " is of kind ", static_cast<int>(grammar.kind),
            ": expected one of those of GrammarKind");
    }
    CheckSize(field, grammar.text.size(), "bytes");
  }
  void operator()(const ParamField&, const SamplingParams& sampling) const {
    ForEachField(sampling, *this);
  }

 private:
  static void CheckSize(const ParamField& field, size_t size, std::string_view unit) {
    if (static_cast<double>(size) <= field.highest) return;
    Throw(ErrorCode::kInvalidArgument, field.name, " has ", size, " ", unit, ": expected at most ",
          field.highest);
  }
};

}  // namespace

void CheckParams(const GenerationParams& params) {
  ForEachField(params, FieldCheck());
  const SamplingParams& sampling = params.sampling;
  if (sampling.temperature > 0 && sampling.temperature < kTemperatureMin) {
    Throw(ErrorCode::kInvalidArgument, "temperature is ", sampling.temperature,
          ": expected 0 for the most likely token, or at least ", kTemperatureMin);
  }
  if (params.tokens_max < 0 || (params.tokens_max == 0 && !params.prompt_logprobs)) {
    Throw(ErrorCode::kInvalidArgument, "tokens_max is ", params.tokens_max,
          ": expected at least 1, or 0 with the prompt's log-probabilities");
  }
  if (sampling.min_tokens < 0 || sampling.min_tokens > params.tokens_max) {
    Throw(ErrorCode::kInvalidArgument, "min_tokens is ", sampling.min_tokens,
          ": expected a value from 0 to tokens_max, ", params.tokens_max);
  }
  const GrammarKind kind = params.grammar.kind;
  if ((kind == GrammarKind::kNone || kind == GrammarKind::kJsonObject) &&
      !params.grammar.text.empty()) {
    Throw(ErrorCode::kInvalidArgument, "grammar has a text of ", params.grammar.text.size(),
          " bytes, and a kind that takes none: name the kind that it is of");
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
