#include "transport/base/generation.h"

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

}  // namespace

void CheckParams(const GenerationParams& params) {
  const SamplingParams& sampling = params.sampling;
  CheckRange("temperature", sampling.temperature, 0, kTemperatureMax);
  if (sampling.temperature > 0 && sampling.temperature < kTemperatureMin) {
    Throw(ErrorCode::kInvalidArgument, "temperature is ", sampling.temperature,
          ": expected 0 for the most likely token, or at least ", kTemperatureMin);
  }
  CheckRange("top_k", sampling.top_k, 0, INT32_MAX);
  CheckRange("top_p", sampling.top_p, 0, 1);
  if (sampling.top_p == 0) {
    Throw(ErrorCode::kInvalidArgument, "top_p is 0: expected a value above 0 and at most 1");
  }
  CheckRange("min_p", sampling.min_p, 0, 1);
  CheckRange("top_logprobs", params.top_logprobs, -1, kTopLogprobsMax);
  if (params.tokens_max < 0 || (params.tokens_max == 0 && !params.prompt_logprobs)) {
    Throw(ErrorCode::kInvalidArgument, "tokens_max is ", params.tokens_max,
          ": expected at least 1, or 0 with the prompt's log-probabilities");
  }
  if (static_cast<int64_t>(params.stop_ids.size()) > kStopIdsMax) {
    Throw(ErrorCode::kInvalidArgument, "stop_ids are ", params.stop_ids.size(),
          ": expected at most ", kStopIdsMax);
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
