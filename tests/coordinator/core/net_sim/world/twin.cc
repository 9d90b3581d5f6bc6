#include "tests/coordinator/core/net_sim/world/twin.h"

#include <algorithm>

#include "coordinator/core/groups/canary.h"
#include "tests/coordinator/core/net_sim/net/chance.h"
#include "transport/base/check.h"

namespace shoal::core::net_sim {

namespace {

uint64_t Start(const std::string& numerics_id, uint64_t seed) {
  uint64_t hash = Mix(seed + 17);
  for (const char c : numerics_id) hash = Mix(hash + static_cast<unsigned char>(c));
  return hash;
}

TokenLogprobs LogprobsOf(uint64_t hash, int32_t top) {
  TokenLogprobs logprobs{-0.01F * static_cast<float>(hash % 997), {}};
  for (int32_t i = 0; i < std::max(top, 0); ++i) {
    logprobs.top.emplace_back(static_cast<int32_t>(Mix(hash + static_cast<uint64_t>(i)) % 90),
                              -0.5F * static_cast<float>(i));
  }
  return logprobs;
}

// Most answers come to their length; of the others a few come to numbers that are not finite.
constexpr uint64_t kStopOneIn = 60;
constexpr uint64_t kErrorOneIn = 1'500;

bool IsCanaryLike(const GenerationParams& params) {
  return params.sampling.temperature == 0 && params.prompt_logprobs;
}

}  // namespace

TwinState::TwinState(const std::string& numerics_id, const std::vector<int32_t>& prompt,
                     const GenerationParams& params)
    : hash_(Start(numerics_id, params.sampling.seed)), tokens_max_(params.tokens_max) {
  for (const int32_t token : prompt) hash_ = Mix(hash_ + static_cast<uint64_t>(token));
  // A canary that stopped early would be no canary.
  if (IsCanaryLike(params)) count_ = -1'000'000, tokens_max_ -= 1'000'000;
  if (params.tokens_max == 0) finish_ = FinishReason::kLength;
}

int32_t TwinState::Next() {
  const auto token = static_cast<int32_t>(hash_ % kVocabSize);
  Absorb(token);
  return token;
}

void TwinState::Absorb(int32_t token) {
  SHOAL_CHECK(finish_ == FinishReason::kNone);
  hash_ = Mix(hash_ + static_cast<uint64_t>(token) + 1);
  ++count_;
  if (count_ == tokens_max_) {
    finish_ = FinishReason::kLength;
  } else if (count_ > 0 && hash_ % kStopOneIn == 0) {
    finish_ = FinishReason::kStop;
  } else if (count_ > 0 && hash_ % kErrorOneIn == 1) {
    finish_ = FinishReason::kNumericError;
    detail_ = Str("layer 1, position ", count_);
  }
}

TokenLogprobs TwinState::Logprobs(int32_t top) const { return LogprobsOf(hash_, top); }

std::vector<TokenLogprobs> PromptLogprobs(const std::string& numerics_id,
                                          const std::vector<int32_t>& prompt,
                                          const GenerationParams& params) {
  std::vector<TokenLogprobs> logprobs;
  if (!params.prompt_logprobs) return logprobs;
  uint64_t hash = Start(numerics_id, 0);
  for (size_t i = 1; i < prompt.size(); ++i) {
    hash = Mix(hash + static_cast<uint64_t>(prompt[i - 1]));
    logprobs.push_back(LogprobsOf(hash, params.top_logprobs));
  }
  return logprobs;
}

Twin MakeTwin(const std::string& numerics_id, const std::vector<int32_t>& prompt,
              const GenerationParams& params) {
  Twin twin;
  twin.prompt_logprobs = PromptLogprobs(numerics_id, prompt, params);
  TwinState state(numerics_id, prompt, params);
  while (state.finish() == FinishReason::kNone) {
    if (params.top_logprobs >= 0) twin.logprobs.push_back(state.Logprobs(params.top_logprobs));
    twin.tokens.push_back(state.Next());
  }
  twin.finish = state.finish();
  twin.detail = state.detail();
  return twin;
}

std::string FindDifference(const Twin& twin, size_t tokens_before, size_t prompt_logprobs_before,
                           const SequenceUpdate& update) {
  const auto differs = [](const auto& whole, size_t before, const auto& part) {
    return before + part.size() > whole.size() ||
           !std::equal(part.begin(), part.end(),
                       whole.begin() + static_cast<std::ptrdiff_t>(before));
  };
  if (differs(twin.tokens, tokens_before, update.tokens)) {
    return Str(update.tokens.size(), " tokens after ", tokens_before, " are not those of its twin");
  }
  if (differs(twin.logprobs, std::min(tokens_before, twin.logprobs.size()), update.logprobs) ||
      (!twin.logprobs.empty() && update.logprobs.size() != update.tokens.size())) {
    return Str("log-probabilities after ", tokens_before, " are not those of its twin");
  }
  if (differs(twin.prompt_logprobs, prompt_logprobs_before, update.prompt_logprobs)) {
    return Str(update.prompt_logprobs.size(), " log-probabilities of its prompt after ",
               prompt_logprobs_before, " are not those of its twin");
  }
  if (!update.tokens.empty() &&
      prompt_logprobs_before + update.prompt_logprobs.size() < twin.prompt_logprobs.size()) {
    return "tokens came before the prompt's log-probabilities";
  }
  if (update.finish == FinishReason::kNone) return "";
  if (update.finish != twin.finish || update.detail != twin.detail ||
      tokens_before + update.tokens.size() != twin.tokens.size() ||
      prompt_logprobs_before + update.prompt_logprobs.size() != twin.prompt_logprobs.size()) {
    return Str("it ended by ", ToString(update.finish), " after ",
               tokens_before + update.tokens.size(), " tokens, its twin by ", ToString(twin.finish),
               " after ", twin.tokens.size());
  }
  return "";
}

std::string CanaryDigestOf(const RankRegistration& rank, const std::vector<int32_t>& prompt) {
  Canary canary(1, prompt, rank);
  const Twin twin = MakeTwin(rank.numerics_id, canary.request.prompt, canary.request.params);
  SequenceUpdate update;
  update.tokens = twin.tokens;
  update.logprobs = twin.logprobs;
  update.prompt_logprobs = twin.prompt_logprobs;
  canary.Apply(update);
  return canary.Digest();
}

}  // namespace shoal::core::net_sim
