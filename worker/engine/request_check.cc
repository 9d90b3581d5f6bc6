// The coordinator refuses bad requests with words for users; this is the second line, for other
// programs that speak the protocol, so that the engine may treat a bad parameter as a bug.

#include "worker/engine/request_check.h"

#include "transport/base/error.h"

namespace shoal::engine {
namespace {

constexpr int32_t kTopLogprobsMax = 20;
constexpr size_t kStopIdsMax = 256;

// NaN fails every range.
void CheckRange(const char* name, double value, double lowest, double highest) {
  if (value >= lowest && value <= highest) return;
  Throw(ErrorCode::kInvalidArgument, name, " is ", value, ": expected a value from ", lowest,
        " to ", highest);
}

}  // namespace

void CheckRequest(std::span<const int32_t> prompt, const GenerationParams& params,
                  int64_t vocab_size) {
  if (prompt.empty()) {
    Throw(ErrorCode::kInvalidArgument, "the prompt has no tokens: expected at least one");
  }
  for (size_t i = 0; i < prompt.size(); ++i) {
    if (prompt[i] >= 0 && prompt[i] < vocab_size) continue;
    Throw(ErrorCode::kInvalidArgument, "prompt token ", i, " is ", prompt[i],
          ": expected an id from 0 to ", vocab_size - 1);
  }
  const SamplingParams& sampling = params.sampling;
  CheckRange("temperature", sampling.temperature, 0, 1e6);
  if (sampling.temperature > 0 && sampling.temperature < 1e-5) {
    Throw(ErrorCode::kInvalidArgument, "temperature is ", sampling.temperature,
          ": expected 0 for the most likely token, or at least 1e-5");
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
  if (params.stop_ids.size() > kStopIdsMax) {
    Throw(ErrorCode::kInvalidArgument, params.stop_ids.size(), " stop ids: expected at most ",
          kStopIdsMax);
  }
}

}  // namespace shoal::engine
