#include "coordinator/core/groups/canary.h"

#include <algorithm>
#include <utility>

#include "transport/base/check.h"

namespace shoal::core {

Request MakeCanary(std::vector<int32_t> prompt, const RankRegistration& shape) {
  for (int32_t& token : prompt) token = std::min(token, shape.vocab_size - 1);
  const int64_t tokens = std::min(shape.context_tokens, shape.kv_cache_tokens) - 1;
  prompt.resize(
      static_cast<size_t>(std::clamp<int64_t>(tokens, 1, static_cast<int64_t>(prompt.size()))));
  GenerationParams params;
  params.sampling.temperature = 0;
  params.tokens_max = 1;
  return {std::move(prompt), std::move(params)};
}

std::string FindCanaryFault(int64_t tokens, const SequenceUpdate& update) {
  const bool finished =
      update.finish == FinishReason::kStop || update.finish == FinishReason::kLength;
  if (tokens == 1 && finished) return "";
  return Str("its canary brought ", tokens, " tokens instead of 1 and ended by ",
             ToString(update.finish), " ", update.detail);
}

}  // namespace shoal::core
