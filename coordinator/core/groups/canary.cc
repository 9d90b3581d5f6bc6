#include "coordinator/core/groups/canary.h"

#include <algorithm>
#include <utility>

#include "transport/base/check.h"
#include "transport/base/generation/canary.h"

namespace shoal::core {

namespace {

Request MakeRequest(std::vector<int32_t> prompt, const RankRegistration& shape) {
  SequenceRequest asked = MakeCanary(std::move(prompt), shape.vocab_size,
                                     std::min(shape.context_tokens, shape.kv_cache_tokens));
  Request request;
  request.prompt = std::move(asked.prompt);
  request.params = std::move(asked.params);
  return request;
}

}  // namespace

Canary::Canary(SequenceId name, std::vector<int32_t> prompt, const RankRegistration& shape)
    : GenerationState(MakeRequest(std::move(prompt), shape)), sequence(name) {}

void Canary::Apply(const SequenceUpdate& update) {
  GenerationState::Apply(update);
  for (const auto* part : {&update.prompt_logprobs, &update.logprobs}) {
    logprobs.insert(logprobs.end(), part->begin(), part->end());
  }
}

std::string Canary::FindBadEnd(const SequenceUpdate& last) const {
  const bool finished = last.finish == FinishReason::kStop || last.finish == FinishReason::kLength;
  const int64_t wanted = request.params.tokens_max;
  if (static_cast<int64_t>(tokens.size()) == wanted && finished) return "";
  return Str("its canary brought ", tokens.size(), " tokens instead of ", wanted, " and ended by ",
             ToString(last.finish), " ", last.detail);
}

std::string Canary::Digest() const { return CanaryDigest(logprobs, tokens); }

std::string FindDigestFault(const ModelKey& key, const std::string& digest,
                            const std::string& expected) {
  if (expected.empty() || digest == expected) return "";
  return Str("its canary's logits have the digest ", digest, ", those of ", key, " have ", expected,
             ": it computes other bits, so the same request would get another answer there. Look "
             "for a program built otherwise (a miscompiled kernel), bad memory, or a damaged copy "
             "of the weights, here or in the groups before it; the coordinator's --canary-digests "
             "says which is right");
}

}  // namespace shoal::core
