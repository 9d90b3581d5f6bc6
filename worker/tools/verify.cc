#include "worker/tools/verify.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/math/scalar.h"
#include "transport/base/error.h"
#include "transport/base/generation/canary.h"
#include "worker/tools/trial.h"

namespace shoal::rank {
namespace {

constexpr int64_t kPromptLengths[] = {1, 7, 33, 290};
constexpr int64_t kSampledTokens = 64;
constexpr size_t kSampledPrompt = 1;

std::string ToHex(XXH128_hash_t hash) {
  char text[33];
  std::snprintf(text, sizeof(text), "%016llx%016llx", static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return text;
}

std::vector<int32_t> Prompt(uint32_t index, int64_t length, int64_t vocab_size) {
  std::vector<int32_t> ids(length);
  for (int64_t i = 0; i < length; ++i) {
    const std::array<uint32_t, 4> words =
        math::Philox4x32({static_cast<uint32_t>(i), index, 0, 0}, {0x73686f61u, 0x6c});
    ids[i] = static_cast<int32_t>(words[0] % static_cast<uint64_t>(vocab_size));
  }
  return ids;
}

// The logits of every prompt position and nothing else, then the sampled continuation.
std::vector<TrialRequest> Requests(int64_t vocab_size, int64_t context_tokens) {
  std::vector<TrialRequest> requests;
  for (size_t p = 0; p < std::size(kPromptLengths); ++p) {
    const int64_t length = std::min(kPromptLengths[p], context_tokens - 1);
    TrialRequest& request = requests.emplace_back();
    request.prompt = Prompt(p, length, vocab_size);
    request.params.sampling.temperature = 0;
    request.params.tokens_max = 1;
    request.params.prompt_logprobs = true;
    request.arrival_step = INT64_MAX;  // When the one before it has ended.
  }
  TrialRequest& sampled = requests.emplace_back(requests[kSampledPrompt]);
  sampled.params.sampling = {.temperature = 0.8, .seed = 1};
  sampled.params.tokens_max =
      std::min<int64_t>(kSampledTokens, context_tokens - sampled.prompt.size());
  sampled.params.prompt_logprobs = false;
  return requests;
}

engine::SchedulerOptions TrialOptions(const GroupSetup& setup, const WorkerOptions& options) {
  return {.sequences_max = options.scheduler.sequences_max,
          .prefill_chunk_tokens = options.scheduler.prefill_chunk_tokens,
          .kv_block_count = setup.cache_blocks(),
          .context_tokens = setup.context_tokens,
          .steps_in_flight_max = setup.cut.pipeline_parallel};
}

}  // namespace

LogitsDigest::LogitsDigest() : state_(XXH3_createState(), XXH3_freeState) {
  XXH3_128bits_reset(state_.get());
}

forward::LogitsSink LogitsDigest::sink() {
  return [this](uint64_t id, int64_t, std::span<const float> logits) {
    if (id >= std::size(kPromptLengths)) return;  // The continuation is digested as tokens.
    XXH3_128bits_update(state_.get(), logits.data(), logits.size_bytes());
  };
}

std::string LogitsDigest::Hex() const { return ToHex(XXH3_128bits_digest(state_.get())); }

VerifyDigests ComputeDigests(GroupSetup& setup, const WorkerOptions& options,
                             const LogitsDigest& digest) {
  const model::ModelConfig& config = setup.model->config();
  const std::vector<TrialRequest> requests = Requests(config.vocab_size, config.context_tokens);
  for (const TrialRequest& request : requests) {
    const int64_t needed = request.prompt.size() + request.params.tokens_max;
    if (needed > setup.tokens_max()) {
      Throw(ErrorCode::kInvalidArgument, "the digests need sequences of ", needed,
            " tokens, context and cache hold ", setup.tokens_max(),
            ": raise --context-tokens-max or --kv-cache-tokens");
    }
  }
  const std::vector<TrialAnswer> answers =
      RunTrial(*setup.member, TrialOptions(setup, options), requests);
  // The rank that saw the logits tells the leader.
  std::string logits = digest.Hex();
  comm::Communicator& group = *setup.group;
  const int32_t reporter = (setup.cut.pipeline_parallel - 1) * setup.cut.tensor_parallel;
  if (reporter != 0) {
    if (group.rank() == reporter) group.Send(std::as_bytes(std::span(logits)), 0);
    if (group.rank() == 0) group.Receive(std::as_writable_bytes(std::span(logits)), reporter);
  }
  if (group.rank() != 0) return {};
  const std::vector<int32_t>& tokens = answers.back().tokens;
  return {.logits = logits,
          .sampled = ToHex(XXH3_128bits(tokens.data(), tokens.size() * sizeof(int32_t))),
          .numerics_id = setup.member->model().numerics_id()};
}

std::string ComputeCanary(GroupSetup& setup, const WorkerOptions& options) {
  SequenceRequest asked =
      MakeCanary({std::begin(kCanaryPrompt), std::end(kCanaryPrompt)},
                 static_cast<int32_t>(setup.model->config().vocab_size), setup.tokens_max());
  TrialRequest request;
  request.prompt = std::move(asked.prompt);
  request.params = std::move(asked.params);
  const std::vector<TrialAnswer> answers =
      RunTrial(*setup.member, TrialOptions(setup, options), {&request, 1});
  if (answers.empty()) return "";
  const TrialAnswer& answer = answers.front();
  if (answer.finish != FinishReason::kStop && answer.finish != FinishReason::kLength) {
    Throw(ErrorCode::kFailed, "the canary ended by ", ToString(answer.finish), " ", answer.detail);
  }
  std::vector<TokenLogprobs> logprobs = answer.prompt_logprobs;
  logprobs.insert(logprobs.end(), answer.logprobs.begin(), answer.logprobs.end());
  return CanaryDigest(logprobs, answer.tokens);
}

}  // namespace shoal::rank
