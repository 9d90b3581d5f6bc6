#include "transport/base/generation/canary.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <iomanip>
#include <sstream>
#include <utility>

namespace shoal {
namespace {

constexpr int64_t kCanaryTokens = 2;

void AppendWord(uint32_t value, std::string& bytes) {
  for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(value >> shift);
}

void AppendLogprobs(const TokenLogprobs& logprobs, std::string& bytes) {
  AppendWord(std::bit_cast<uint32_t>(logprobs.logprob), bytes);
  AppendWord(static_cast<uint32_t>(logprobs.top.size()), bytes);
  for (const auto& [token, logprob] : logprobs.top) {
    AppendWord(static_cast<uint32_t>(token), bytes);
    AppendWord(std::bit_cast<uint32_t>(logprob), bytes);
  }
}

}  // namespace

SequenceRequest MakeCanary(std::vector<int32_t> prompt, int32_t vocab_size, int64_t tokens_max) {
  for (int32_t& token : prompt) token = std::min(token, vocab_size - 1);
  const auto prompt_tokens =
      std::clamp<int64_t>(tokens_max - 1, 1, static_cast<int64_t>(prompt.size()));
  prompt.resize(static_cast<size_t>(prompt_tokens));
  SequenceRequest request;
  request.prompt = std::move(prompt);
  request.params.sampling.temperature = 0;
  request.params.tokens_max = std::clamp<int64_t>(tokens_max - prompt_tokens, 1, kCanaryTokens);
  request.params.prompt_logprobs = true;
  request.params.top_logprobs = kTopLogprobsMax;
  return request;
}

std::string CanaryDigest(std::span<const TokenLogprobs> logprobs, std::span<const int32_t> tokens) {
  std::string bytes;
  for (const TokenLogprobs& position : logprobs) AppendLogprobs(position, bytes);
  for (const int32_t token : tokens) AppendWord(static_cast<uint32_t>(token), bytes);
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  std::ostringstream digits;
  digits << std::hex << std::setfill('0') << std::setw(16) << hash.high64 << std::setw(16)
         << hash.low64;
  return digits.str();
}

}  // namespace shoal
