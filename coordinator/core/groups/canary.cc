#include "coordinator/core/groups/canary.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <iomanip>
#include <sstream>
#include <utility>

#include "transport/base/check.h"

namespace shoal::core {

namespace {

constexpr int64_t kTokens = 2;

Request MakeRequest(std::vector<int32_t> prompt, const RankRegistration& shape) {
  for (int32_t& token : prompt) token = std::min(token, shape.vocab_size - 1);
  const int64_t room = std::min(shape.context_tokens, shape.kv_cache_tokens);
  const auto prompt_tokens = std::clamp<int64_t>(room - 1, 1, static_cast<int64_t>(prompt.size()));
  prompt.resize(static_cast<size_t>(prompt_tokens));
  Request request;
  request.prompt = std::move(prompt);
  request.params.sampling.temperature = 0;
  request.params.tokens_max = std::clamp<int64_t>(room - prompt_tokens, 1, kTokens);
  request.params.prompt_logprobs = true;
  request.params.top_logprobs = kTopLogprobsMax;
  return request;
}

void Append(uint32_t value, std::string& bytes) {
  for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(value >> shift);
}

void Append(const TokenLogprobs& logprobs, std::string& bytes) {
  Append(std::bit_cast<uint32_t>(logprobs.logprob), bytes);
  Append(static_cast<uint32_t>(logprobs.top.size()), bytes);
  for (const auto& [token, logprob] : logprobs.top) {
    Append(static_cast<uint32_t>(token), bytes);
    Append(std::bit_cast<uint32_t>(logprob), bytes);
  }
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

std::string Canary::Digest() const {
  std::string bytes;
  for (const TokenLogprobs& position : logprobs) Append(position, bytes);
  for (const int32_t token : tokens) Append(static_cast<uint32_t>(token), bytes);
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  std::ostringstream digits;
  digits << std::hex << std::setfill('0') << std::setw(16) << hash.high64 << std::setw(16)
         << hash.low64;
  return digits.str();
}

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
